#ifndef CAIRN_SERVER_QUEUE_BATCH_STAGE_H_
#define CAIRN_SERVER_QUEUE_BATCH_STAGE_H_

#include "server/flow/hub_store.h"
#include "server/flow/publisher.h"
#include "server/flow/stage.h"
#include "server/queue/merge_flow.h"
#include "server/queue/revert_flow.h"
#include "storage/blob_store.h"

namespace cairn {

// Moves batches on: of every model the oldest one that is not over. What a
// batch does is MergeFlow's or RevertFlow's; both keep all their state in the
// batch's record, so that a restart goes on where the last commit was.
class BatchStage : public Stage {
 public:
  // All must outlive the stage.
  BatchStage(HubStore& store, const BlobStore& blobs, Publisher& publisher);

  absl::string_view name() const override { return "batch"; }
  absl::StatusOr<int> RunPass() override;

 private:
  HubStore& store_;
  MergeFlow merge_;
  RevertFlow revert_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_BATCH_STAGE_H_
