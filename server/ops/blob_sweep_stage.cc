#include "server/ops/blob_sweep_stage.h"

#include <utility>

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "server/ops/record_walk.h"

namespace cairn {
namespace {

// The digests that records name now; a name that is no digest stops the sweep,
// as nobody can tell what it would have kept.
absl::Status VisitNamed(HubStore& store, const BlobStore& blobs,
                        const std::function<void(const Digest&)>& visit) {
  absl::Status broken;
  absl::Status walked =
      ForEachNamedBlob(store.Read(), blobs, [&](const NamedBlob& named) {
        auto digest = Digest::Parse(named.sha256);
        if (digest.ok()) {
          visit(*digest);
        } else if (broken.ok()) {
          broken = absl::DataLossError(absl::StrCat(
              named.record, " names a blob by \"", named.sha256, "\""));
        }
      });
  return walked.ok() ? broken : walked;
}

}  // namespace

BlobSweepStage::BlobSweepStage(HubStore& store, BlobStore& blobs,
                               absl::Duration grace, SweepGate& gate)
    : clock_(store.clock()),
      gate_(gate),
      sweeper_(
          blobs, store.clock(), grace,
          [&store, &blobs](const std::function<void(const Digest&)>& visit) {
            return VisitNamed(store, blobs, visit);
          }),
      swept_at_(store.clock().Monotonic()) {}

absl::StatusOr<int> BlobSweepStage::RunPass() {
  const absl::Duration now = clock_.Monotonic();
  if (now - swept_at_ < period()) return 0;
  if (!gate_.TryBeginSweep()) return 0;
  swept_at_ = now;
  auto swept = sweeper_.Sweep();
  gate_.EndSweep();
  CAIRN_ASSIGN_OR_RETURN(SweepResult result, std::move(swept));
  if (result.blobs_removed > 0) {
    CAIRN_LOG(kInfo, "swept ", result.blobs_removed, " blobs, ",
              result.bytes_removed, " bytes; ", result.blobs_kept, " stay");
  }
  return 0;
}

}  // namespace cairn
