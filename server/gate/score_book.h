#ifndef CAIRN_SERVER_GATE_SCORE_BOOK_H_
#define CAIRN_SERVER_GATE_SCORE_BOOK_H_

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "server/gate/gate.h"

namespace cairn {

// Which scores: of these weights, by this kind of machine and arithmetic.
// Scores of different device classes are never paired.
struct ScoreKey {
  std::string digest;
  std::string device_class;
  std::string dtype;
};

// Keeps scores of published or candidate weights; they are never wrong later,
// so they are never dropped while the suite lives.
absl::Status RememberScores(
    HubTransaction& transaction, const ScoreKey& key,
    const google::protobuf::RepeatedPtrField<v1::SplitScores>& scores);

// Scores kept before; nullopt when there are none.
absl::StatusOr<std::optional<v1::SplitScores>> FindScores(
    const HubReader& reader, const ScoreKey& key, absl::string_view suite,
    int32_t version, absl::string_view split);

// Pairs scores of a candidate with those of its base (from `base_scores`, or
// else kept ones under `base`) for every suite of `suites` on one split.
// FAILED_PRECONDITION naming the suite when a side lacks it.
absl::StatusOr<std::vector<GateSuite>> PairScores(
    const HubReader& reader, const ScoreKey& base,
    const google::protobuf::RepeatedPtrField<v1::SplitScores>& base_scores,
    const google::protobuf::RepeatedPtrField<v1::SplitScores>& candidate_scores,
    const std::vector<store::v1::SuiteRecord>& suites, absl::string_view split,
    const v1::Policy& policy, const std::set<std::string>& claims);

// Reports of all suites, in their order.
std::vector<v1::Report> MakeReports(const std::vector<GateSuite>& suites,
                                    double alpha,
                                    absl::string_view device_class);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_SCORE_BOOK_H_
