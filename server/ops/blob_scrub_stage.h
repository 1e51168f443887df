#ifndef CAIRN_SERVER_OPS_BLOB_SCRUB_STAGE_H_
#define CAIRN_SERVER_OPS_BLOB_SCRUB_STAGE_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "absl/time/time.h"
#include "cairn/store/v1/care.pb.h"
#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "storage/blob_scrubber.h"
#include "storage/blob_store.h"

namespace cairn {

// Reads every stored blob again, round after round, to find bytes that changed
// on the disk. A find is recorded with everything that needs the blob, logged,
// and told to the models concerned as an event "storage.damaged"; it is
// forgotten once the blob reads well or is gone. A restart goes on where the
// last position was noted.
class BlobScrubStage : public Stage {
 public:
  // `store` and `blobs` must outlive it.
  BlobScrubStage(HubStore& store, const BlobStore& blobs,
                 int64_t bytes_per_second, absl::Duration every);

  absl::string_view name() const override { return "scrub"; }
  absl::Duration period() const override { return absl::Seconds(1); }
  absl::StatusOr<int> RunPass() override;
  void EndSoon() override { is_ending_ = true; }

  // Since the start; read by any thread.
  int64_t scrubbed_bytes() const { return scrubbed_bytes_; }
  int64_t damaged_blobs() const { return damaged_blobs_; }

 private:
  absl::Status Load();
  absl::Status NoteDamaged(const ScrubTally& tally);
  absl::Status NoteSound(const ScrubTally& tally);
  // Forgets damaged blobs that are no longer there.
  absl::Status ForgetRemoved();
  absl::Status Forget(const std::string& sha256, absl::string_view why);
  absl::Status SavePosition();

  HubStore& store_;
  const BlobStore& blobs_;
  const absl::Duration every_;
  BlobScrubber scrubber_;
  // As stored, and where the round is now; nothing before the first pass.
  std::optional<store::v1::ScrubRecord> record_;
  std::set<std::string> damaged_;  // SHA-256
  absl::Duration saved_at_;        // monotonic
  std::atomic<bool> is_ending_ = false;
  std::atomic<int64_t> scrubbed_bytes_ = 0;
  std::atomic<int64_t> damaged_blobs_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_BLOB_SCRUB_STAGE_H_
