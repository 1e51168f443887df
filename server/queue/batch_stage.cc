#include "server/queue/batch_stage.h"

#include <set>
#include <string>

#include "core/base/log.h"

namespace cairn {

using store::v1::BatchRecord;

BatchStage::BatchStage(HubStore& store, const BlobStore& blobs,
                       Publisher& publisher)
    : store_(store),
      merge_(store, blobs, publisher),
      revert_(store, blobs, publisher) {}

absl::StatusOr<int> BatchStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto open,
                         snapshot.FindByPrefix<BatchRecord>(kOpenBatch, ""));
  std::set<std::string> models;
  int moved = 0;
  for (const BatchRecord& batch : open) {
    // By model, then by number: the first of a model is its oldest.
    if (!models.insert(batch.model()).second) continue;
    auto did = batch.batch().purpose() == v1::Batch::REVERT
                   ? revert_.Advance(batch)
                   : merge_.Advance(batch);
    if (!did.ok()) {
      CAIRN_LOG(kError, batch.batch().name(), ": ", did.status().ToString());
    } else if (*did) {
      ++moved;
    }
  }
  return moved;
}

}  // namespace cairn
