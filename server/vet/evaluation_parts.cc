#include "server/vet/evaluation_parts.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/policy_rules.h"
#include "server/gate/look.h"

namespace cairn {
namespace {

using google::protobuf::RepeatedPtrField;
using store::v1::BaseScoresRecord;
using v1::EvaluateSpec;
using v1::SplitScores;

constexpr char kGateSplit[] = "gate";
constexpr double kHoldFactor = 1.5;

void SetItems(const SplitScores& whole, int look, v1::SuiteInput& suite) {
  const std::vector<int32_t> items = ItemsOfLook(whole, look);
  suite.mutable_items()->Assign(items.begin(), items.end());
}

// Scores of the weights on a gate split, by any device.
absl::StatusOr<std::optional<SplitScores>> AnyScores(
    const HubReader& reader, const std::string& digest,
    const v1::SuiteInput& suite) {
  BaseScoresRecord key;
  key.set_digest(digest);
  key.mutable_scores()->set_suite(suite.suite());
  key.mutable_scores()->set_suite_version(suite.version());
  key.mutable_scores()->set_split(kGateSplit);
  // The name but for what it ends with: dtype and device class.
  std::string prefix = Table<BaseScoresRecord>::Name(key);
  prefix.pop_back();
  CAIRN_ASSIGN_OR_RETURN(auto found, reader.ListAll<BaseScoresRecord>(prefix));
  if (found.empty()) return std::optional<SplitScores>();
  return std::optional(std::move(*found[0].mutable_scores()));
}

}  // namespace

absl::Status AskForFirstLook(const HubReader& reader, const v1::Policy& policy,
                             EvaluateSpec& spec) {
  EvaluateSpec first = spec;
  int64_t items = 0;
  for (v1::SuiteInput& suite : *first.mutable_suites()) {
    CAIRN_ASSIGN_OR_RETURN(auto known,
                           AnyScores(reader, DigestOf(spec.base()), suite));
    if (!known.has_value()) return absl::OkStatus();
    items += known->scores_size();
    SetItems(*known, 0, suite);
  }
  if (items >= EarlyStopItems(policy)) spec = std::move(first);
  return absl::OkStatus();
}

bool IsInParts(const EvaluateSpec& spec) {
  return std::any_of(
      spec.suites().begin(), spec.suites().end(),
      [](const v1::SuiteInput& suite) { return !suite.items().empty(); });
}

EvaluateSpec SpecOfLook(const EvaluateSpec& first, int look,
                        const std::map<std::string, SplitScores>& base) {
  EvaluateSpec out = first;
  out.clear_suites();
  for (v1::SuiteInput suite : first.suites()) {
    SetItems(base.at(suite.suite()), look, suite);
    if (!suite.items().empty()) *out.add_suites() = std::move(suite);
  }
  return out;
}

absl::StatusOr<v1::EvaluateResult> JoinLooks(
    const EvaluateSpec& first, const std::vector<v1::EvaluateResult>& looks) {
  v1::EvaluateResult out;
  for (const v1::EvaluateResult& look : looks) {
    for (const SplitScores& scores : look.base()) *out.add_base() = scores;
    if (!look.base_digest().empty()) out.set_base_digest(look.base_digest());
  }
  for (const v1::SuiteInput& suite : first.suites()) {
    std::vector<const SplitScores*> parts;
    for (const v1::EvaluateResult& look : looks) {
      for (const SplitScores& scores : look.candidate()) {
        if (scores.suite() == suite.suite()) parts.push_back(&scores);
      }
    }
    CAIRN_ASSIGN_OR_RETURN(*out.add_candidate(), JoinParts(parts));
  }
  return out;
}

absl::Duration HoldPeriod(const store::v1::JobRecord& first) {
  const absl::Time began = FromTimestamp(first.lease().create_time());
  const absl::Time ended = FromTimestamp(first.update_time());
  return (ended - began) * (kHoldFactor / kLooks[0].items);
}

absl::Time HoldUntil(const store::v1::JobRecord& first) {
  return FromTimestamp(first.lease().create_time()) + HoldPeriod(first);
}

}  // namespace cairn
