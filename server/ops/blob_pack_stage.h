#ifndef CAIRN_SERVER_OPS_BLOB_PACK_STAGE_H_
#define CAIRN_SERVER_OPS_BLOB_PACK_STAGE_H_

#include <atomic>
#include <cstdint>

#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "server/flow/stage.h"
#include "storage/blob_packer.h"

namespace cairn {

// Packs blobs in the background.
class BlobPackStage : public Stage {
 public:
  // All must outlive it.
  BlobPackStage(const BlobStore& blobs, BlobPacking& packing, Clock& clock,
                BlobPacker::Options options)
      : packer_(blobs, packing, clock, options) {}

  absl::string_view name() const override { return "pack"; }
  absl::Duration period() const override { return absl::Seconds(1); }
  absl::StatusOr<int> RunPass() override {
    CAIRN_ASSIGN_OR_RETURN(PackTally tally,
                           packer_.Run([this] { return !is_ending_; }));
    packed_blobs_ += tally.blobs_packed;
    return 0;
  }
  void EndSoon() override { is_ending_ = true; }

  // Since the start; read by any thread.
  int64_t packed_blobs() const { return packed_blobs_; }

 private:
  BlobPacker packer_;
  std::atomic<bool> is_ending_ = false;
  std::atomic<int64_t> packed_blobs_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_BLOB_PACK_STAGE_H_
