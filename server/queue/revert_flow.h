#ifndef CAIRN_SERVER_QUEUE_REVERT_FLOW_H_
#define CAIRN_SERVER_QUEUE_REVERT_FLOW_H_

#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/queue/candidate.h"
#include "storage/blob_store.h"

namespace cairn {

// A batch that takes one contribution out of the line:
//   FORMING     plans the line without it, from the release before it entered;
//   MERGING     repeats the merges that came after, one job a step;
//   EVALUATING  holds the result to the gate against the head (protected
//               suites only), then has it published as a patch version.
// Each Advance() does at most one step; all state is in the batch's record.
class RevertFlow {
 public:
  RevertFlow(HubStore& store, const BlobStore& blobs, Publisher& publisher)
      : store_(store), blobs_(blobs), publisher_(publisher) {}

  // True when the batch moved; false when it waits for a job.
  absl::StatusOr<bool> Advance(const store::v1::BatchRecord& batch);

 private:
  using Batch = store::v1::BatchRecord;

  absl::StatusOr<bool> Form(Batch batch);
  absl::StatusOr<bool> RepeatMerge(Batch batch);
  absl::StatusOr<bool> TakeMerge(Batch batch, const JobOutcome& outcome);
  absl::StatusOr<bool> StartGate(Batch batch);
  absl::StatusOr<bool> FinishGate(Batch batch);
  absl::StatusOr<bool> Publish(Batch batch);
  absl::StatusOr<bool> Fail(Batch batch,
                            const std::vector<v1::Reason>& reasons);
  absl::StatusOr<bool> Put(const Batch& batch);

  HubStore& store_;
  const BlobStore& blobs_;
  Publisher& publisher_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_REVERT_FLOW_H_
