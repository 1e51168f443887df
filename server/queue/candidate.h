#ifndef CAIRN_SERVER_QUEUE_CANDIDATE_H_
#define CAIRN_SERVER_QUEUE_CANDIDATE_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/gate/gate.h"
#include "server/gate/score_book.h"
#include "storage/blob_store.h"

namespace cairn {

// A job as a batch sees it.
struct JobOutcome {
  enum class Kind { kRunning, kDone, kFailed };
  Kind kind = Kind::kRunning;
  store::v1::JobRecord job = {};
  v1::JobResult result = {};  // when done
  v1::Reason failure = {};    // when failed
};

// Looks at a job; a result that cannot be read is a failure.
absl::StatusOr<JobOutcome> LookAtJob(const HubReader& reader,
                                     const BlobStore& blobs,
                                     absl::string_view job);

// Asks for a merge of a line's step (or a batch's members) into `head`.
absl::StatusOr<v1::JobSpec> MakeMergeSpec(const HubReader& reader,
                                          const v1::ModelInput& head,
                                          const store::v1::LineStep& step,
                                          v1::MergeSpec::Output output);

// What a merge made, once it is shown to be whole: every tensor of the head is
// there with its shape and dtype, every blob is stored with its size, and the
// digest is the one of these tensors and the head's files. DATA_LOSS naming
// what does not hold.
absl::StatusOr<store::v1::CandidateRecord> TakeCandidate(
    const BlobStore& blobs, const store::v1::ReleaseRecord& release,
    const v1::MergeSpec& spec, const v1::JobResult& result);

// The suites that have a split.
std::vector<store::v1::SuiteRecord> SuitesWith(
    const std::vector<store::v1::SuiteRecord>& suites, absl::string_view split);

// Asks to score `candidate` against the head on splits of suites.
v1::JobSpec MakeJudgeSpec(const v1::ModelInput& head,
                          const v1::ModelInput& candidate,
                          const std::vector<store::v1::SuiteRecord>& suites,
                          const std::vector<std::string>& splits,
                          const v1::Policy& policy);

// The paired scores of such a job on one split. DATA_LOSS when other weights
// were scored than asked.
absl::StatusOr<std::vector<GateSuite>> PairCandidate(
    const HubReader& reader, const store::v1::JobRecord& job,
    const v1::JobResult& result, absl::string_view split,
    const v1::Policy& policy, const std::set<std::string>& claims);

// Keeps both sides' scores: the candidate may be the next head.
absl::Status RememberCandidateScores(HubTransaction& transaction,
                                     const store::v1::JobRecord& job,
                                     const v1::JobResult& result);

// Claims of contributions: short names of suites.
absl::StatusOr<std::set<std::string>> ClaimsOf(
    const HubReader& reader, const std::vector<std::string>& contributions);

// Charges what the gate said of a merge, which `job` scored, to those whose
// contributions are in it: their authors are told.
absl::Status ChargeMembers(HubTransaction& transaction,
                           const std::vector<std::string>& members,
                           const store::v1::JobRecord& job,
                           v1::Verdict::Decision decision);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_CANDIDATE_H_
