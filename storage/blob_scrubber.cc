#include "storage/blob_scrubber.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;
// Opening a blob costs about as much as reading so many bytes.
constexpr int64_t kOpenBytes = 64 << 10;

}  // namespace

absl::Status VerifyBlob(const BlobStore& blobs, const Digest& digest,
                        const std::function<bool()>& go_on) {
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs.Open(digest));
  Hasher hasher;
  std::string tile;
  for (int64_t at = 0; at < source->size();) {
    if (!go_on()) return absl::CancelledError("reading was interrupted");
    tile.resize(static_cast<size_t>(std::min(kTileBytes, source->size() - at)));
    CAIRN_RETURN_IF_ERROR(source->ReadAt(at, absl::MakeSpan(tile)));
    hasher.Update(tile);
    at += static_cast<int64_t>(tile.size());
  }
  if (hasher.Finish() == digest) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("blob ", digest.hex(),
                   " does not have its digest: its bytes changed on the disk"));
}

absl::StatusOr<ScrubTally> BlobScrubber::Run(
    const Digest& from, const std::function<bool()>& go_on) {
  ScrubTally tally{.next = from};
  if (!pacer_.IsFree()) return tally;
  tally.next.reset();
  absl::Status failure;
  CAIRN_RETURN_IF_ERROR(blobs_.ListFrom(from, [&](const BlobStat& stat) {
    tally.next = stat.digest;
    if (!pacer_.IsFree() || !go_on()) return false;
    absl::Status checked = VerifyBlob(blobs_, stat.digest, go_on);
    if (absl::IsCancelled(checked)) return false;
    const bool is_gone = absl::IsNotFound(checked);
    if (!checked.ok() && !is_gone && !absl::IsDataLoss(checked)) {
      failure = checked;
      return false;
    }
    pacer_.Spend(std::max(stat.size_bytes, kOpenBytes));
    tally.next.reset();
    if (is_gone) return true;
    ++tally.blobs;
    tally.bytes += stat.size_bytes;
    if (checked.ok()) {
      tally.sound.push_back(stat.digest);
    } else {
      tally.damaged.push_back({stat.digest, std::string(checked.message())});
    }
    return true;
  }));
  CAIRN_RETURN_IF_ERROR(failure);
  return tally;
}

}  // namespace cairn
