#ifndef CAIRN_SERVER_RELEASE_DELTA_STAGE_H_
#define CAIRN_SERVER_RELEASE_DELTA_STAGE_H_

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "storage/blob_store.h"

namespace cairn {

// Takes deltas that workers made: one that is worth its bytes becomes READY,
// every other FAILED. What a delta makes is for whoever uses it to check
// against the signed digests.
class DeltaStage : public Stage {
 public:
  // Both must outlive it.
  DeltaStage(HubStore& store, BlobStore& blobs)
      : store_(store), blobs_(blobs) {}

  absl::string_view name() const override { return "deltas"; }
  absl::StatusOr<int> RunPass() override;

 private:
  // Decides on one; false while its job runs.
  absl::StatusOr<bool> Settle(store::v1::DeltaRecord record);

  HubStore& store_;
  BlobStore& blobs_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_DELTA_STAGE_H_
