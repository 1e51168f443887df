#ifndef CAIRN_SERVER_QUEUE_MERGE_FLOW_H_
#define CAIRN_SERVER_QUEUE_MERGE_FLOW_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/queue/bisection.h"
#include "server/queue/candidate.h"
#include "storage/blob_store.h"

namespace cairn {

// A batch of queued contributions on its way to a release:
//   FORMING     takes the head it merges into;
//   MERGING     searches lambda where it is free, then merges;
//   EVALUATING  holds the candidate to the gate, then to the audit while what
//               its members add is measured, then has it published;
//   BISECTING   tries parts of a candidate that failed the gate.
// Each Advance() does at most one step. Jobs that were given up end the batch
// and put its members back on hold. When the head moved meanwhile, the batch
// begins again on the new one.
class MergeFlow {
 public:
  MergeFlow(HubStore& store, const BlobStore& blobs, Publisher& publisher)
      : store_(store), blobs_(blobs), publisher_(publisher) {}

  // True when the batch moved; false when it waits for a job.
  absl::StatusOr<bool> Advance(const store::v1::BatchRecord& batch);

 private:
  using Batch = store::v1::BatchRecord;
  using Trial = store::v1::TrialRecord;

  absl::StatusOr<bool> Form(Batch batch);
  absl::StatusOr<bool> FinishSearch(Batch batch);
  absl::StatusOr<bool> StartTrial(Batch batch,
                                  const std::vector<std::string>& members,
                                  bool repeats);
  // Moves the trial that runs: merged, confirmed, judged.
  absl::StatusOr<bool> AdvanceTrial(Batch batch, int trial);
  absl::StatusOr<bool> TakeMerge(Batch batch, int trial,
                                 const JobOutcome& outcome);
  absl::StatusOr<bool> TakeVerdict(Batch batch, int trial,
                                   const JobOutcome& outcome);
  // After the trial of the whole batch.
  absl::StatusOr<bool> AfterGate(Batch batch);
  absl::StatusOr<bool> Bisect(Batch batch);
  absl::StatusOr<bool> Settle(Batch batch, const BisectionPlan& plan);
  absl::StatusOr<bool> StartAudit(Batch batch, const Trial& passed);
  absl::StatusOr<bool> FinishAudit(Batch batch);
  absl::StatusOr<bool> Publish(Batch batch);
  absl::StatusOr<bool> BeginAgain(Batch batch);

  // Ends the batch for trouble that is not its members' fault.
  absl::StatusOr<bool> GiveUp(Batch batch, const v1::Reason& why);
  absl::StatusOr<bool> NoGain(Batch batch,
                              const std::vector<v1::Reason>& reasons);
  // The members are told something else than the batch.
  absl::StatusOr<bool> NoGain(Batch batch,
                              const std::vector<v1::Reason>& reasons,
                              const std::vector<v1::Reason>& for_members);

  HubStore& store_;
  const BlobStore& blobs_;
  Publisher& publisher_;
};

// "0.4": a parameter's value in the shortest form that reads back the same.
std::string ParameterText(double value);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_MERGE_FLOW_H_
