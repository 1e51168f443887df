#ifndef CAIRN_SERVER_OPS_BLOB_SWEEP_STAGE_H_
#define CAIRN_SERVER_OPS_BLOB_SWEEP_STAGE_H_

#include <optional>

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "server/ops/sweep_gate.h"
#include "storage/blob_store.h"
#include "storage/blob_sweeper.h"

namespace cairn {

// Removes blobs that no record needs and that were not touched for a while.
// Sweeps once an hour, however often it is asked.
class BlobSweepStage : public Stage {
 public:
  // All must outlive it. `grace`: for how long a blob stays that nothing
  // names. Sweeps wait while somebody holds the gate.
  BlobSweepStage(HubStore& store, BlobStore& blobs, absl::Duration grace,
                 SweepGate& gate);

  absl::string_view name() const override { return "sweep"; }
  absl::Duration period() const override { return absl::Hours(1); }
  absl::StatusOr<int> RunPass() override;

 private:
  Clock& clock_;
  SweepGate& gate_;
  BlobSweeper sweeper_;
  // Monotonic; the first pass comes a period after the start.
  absl::Duration swept_at_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_BLOB_SWEEP_STAGE_H_
