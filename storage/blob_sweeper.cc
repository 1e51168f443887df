#include "storage/blob_sweeper.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"

namespace cairn {

BlobSweeper::BlobSweeper(BlobStore& blobs, Clock& clock, absl::Duration grace,
                         ForEachNamed for_each_named)
    : blobs_(blobs),
      clock_(clock),
      grace_(grace),
      for_each_named_(std::move(for_each_named)) {}

absl::StatusOr<SweepResult> BlobSweeper::Sweep() {
  const absl::Time cutoff = clock_.Now() - grace_;
  SweepResult result;
  absl::flat_hash_map<Digest, int64_t> old;
  CAIRN_RETURN_IF_ERROR(blobs_.List([&](const BlobStat& stat) {
    if (stat.stored_at < cutoff) {
      old.emplace(stat.digest, stat.size_bytes);
    } else {
      ++result.blobs_kept;
    }
    return true;
  }));
  if (old.empty()) return result;
  CAIRN_RETURN_IF_ERROR(Failpoint("sweep.listed"));
  absl::Status named = for_each_named_([&](const Digest& digest) {
    if (old.erase(digest) > 0) ++result.blobs_kept;
  });
  CAIRN_RETURN_IF_ERROR(named);
  for (const auto& [digest, size] : old) {
    CAIRN_RETURN_IF_ERROR(Failpoint("sweep.remove"));
    CAIRN_ASSIGN_OR_RETURN(bool is_removed,
                           blobs_.RemoveIfOlder(digest, cutoff));
    if (!is_removed) {
      ++result.blobs_kept;
      continue;
    }
    ++result.blobs_removed;
    result.bytes_removed += size;
  }
  CAIRN_RETURN_IF_ERROR(Failpoint("sweep.done"));
  return result;
}

}  // namespace cairn
