#include "storage/blob_packer.h"

#include <algorithm>
#include <optional>

#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// A look costs about as much as reading so many bytes.
constexpr int64_t kLookBytes = 64 << 10;
// Of those that are remembered; forgetting them costs a look at each.
constexpr size_t kPlainMax = 1'000'000;

}  // namespace

BlobPacker::BlobPacker(const BlobStore& blobs, BlobPacking& packing,
                       Clock& clock, Options options)
    : blobs_(blobs),
      packing_(packing),
      clock_(clock),
      options_(options),
      pacer_(clock, options.bytes_per_second),
      next_round_(clock.Monotonic()) {}

absl::StatusOr<PackTally> BlobPacker::Run(const std::function<bool()>& go_on) {
  PackTally tally;
  if (clock_.Monotonic() < next_round_ || !pacer_.IsFree()) return tally;
  const absl::Time cutoff = clock_.Now() - options_.min_age;
  std::optional<Digest> stopped_at;
  absl::Status status;
  CAIRN_RETURN_IF_ERROR(blobs_.ListFrom(position_, [&](const BlobStat& stat) {
    if (stat.stored_bytes < stat.size_bytes || stat.stored_at > cutoff ||
        stat.size_bytes < kLookBytes || plain_.contains(stat.digest)) {
      return true;
    }
    if (pacer_.IsFree() && go_on()) {
      status = PackOne(stat, go_on, tally);
      if (status.ok()) return true;
    }
    stopped_at = stat.digest;
    return false;
  }));
  position_ = stopped_at.value_or(Digest());
  if (!stopped_at.has_value()) {
    next_round_ = clock_.Monotonic() + options_.round_pause;
  }
  if (!status.ok() && !absl::IsCancelled(status)) return status;
  return tally;
}

absl::Status BlobPacker::PackOne(const BlobStat& stat,
                                 const std::function<bool()>& go_on,
                                 PackTally& tally) {
  auto outcome = packing_.Pack(stat.digest, go_on);
  if (absl::IsNotFound(outcome.status())) return absl::OkStatus();
  if (absl::IsDataLoss(outcome.status())) {
    CAIRN_LOG(kError, "packing: ", outcome.status().message());
    plain_.insert(stat.digest);
    pacer_.Spend(stat.size_bytes);
    return absl::OkStatus();
  }
  CAIRN_RETURN_IF_ERROR(outcome.status());
  pacer_.Spend(std::max(outcome->read_bytes, kLookBytes));
  tally.bytes_read += outcome->read_bytes;
  if (outcome->is_packed) {
    ++tally.blobs_packed;
    return absl::OkStatus();
  }
  if (plain_.size() >= kPlainMax) plain_.clear();
  plain_.insert(stat.digest);
  return absl::OkStatus();
}

}  // namespace cairn
