#ifndef CAIRN_SERVER_FLOW_JOB_RECORDS_H_
#define CAIRN_SERVER_FLOW_JOB_RECORDS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

inline constexpr char kEvaluateKind[] = "evaluate";
inline constexpr char kMergeKind[] = "merge";

// A job as a stage asks for it.
struct JobRequest {
  std::string model = {};
  std::string subject = {};  // the resource it works for
  v1::JobSpec spec = {};
  // Worker instances that must not take it.
  std::vector<std::string> excluded_instances = {};
};

// Stores a PENDING job and returns its name.
absl::StatusOr<std::string> EnqueueJob(HubTransaction& transaction,
                                       const JobRequest& request);
// Ends a job that is no longer wanted; its worker is told by its heartbeat.
// A job that is over stays as it is.
absl::Status CancelJob(HubTransaction& transaction, absl::string_view job,
                       absl::string_view why);
// "evaluate" for scoring, "merge" for anything that makes weights.
std::string KindOf(const v1::JobSpec& spec);

// Inputs of jobs as the records say them.
v1::ReleaseInput MakeReleaseInput(const store::v1::ReleaseRecord& release);
v1::ModelInput MakeModelInput(const store::v1::ReleaseRecord& release);
// Weights that are not published, on the files of `release`.
v1::ModelInput MakeModelInput(const store::v1::ReleaseRecord& release,
                              const store::v1::CandidateRecord& candidate);
absl::StatusOr<v1::UpdateInput> MakeUpdateInput(
    const HubReader& reader, const store::v1::ContributionRecord& record);
v1::SuiteInput MakeSuiteInput(const store::v1::SuiteRecord& suite,
                              const std::vector<std::string>& splits);
// The policy's arithmetic for scores; "float32" when it names none.
std::string EvalDtype(const v1::Policy& policy);
// How a job that scores computes, by the policy.
template <typename Spec>
void SetComputation(const v1::Policy& policy, Spec& spec) {
  spec.set_dtype(EvalDtype(policy));
  spec.set_torchscript(policy.torchscript());
}
// Digest of the weights of an input.
std::string DigestOf(const v1::ModelInput& input);

// The result that a worker handed in for a DONE job. DATA_LOSS when its blob
// is gone or is no JobResult.
absl::StatusOr<v1::JobResult> ReadJobResult(const BlobStore& blobs,
                                            const store::v1::JobRecord& job);
// A whole small blob. RESOURCE_EXHAUSTED past `bytes_max`.
absl::StatusOr<std::string> ReadBlob(const BlobStore& blobs,
                                     absl::string_view sha256,
                                     int64_t bytes_max);
// A stored TensorManifest.
absl::StatusOr<v1::TensorManifest> ReadTensorManifest(const BlobStore& blobs,
                                                      absl::string_view sha256);

// Which workers are there. Implemented by server/jobs. Thread-safe.
class WorkerPresence {
 public:
  virtual ~WorkerPresence() = default;
  // True when a worker that runs jobs of this kind was heard of lately.
  virtual bool HasWorker(absl::string_view kind) const = 0;
};

// What a job waits for, in words; empty when a worker has it or can take it.
std::string WaitingFor(const WorkerPresence& workers,
                       const store::v1::JobRecord& job);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_JOB_RECORDS_H_
