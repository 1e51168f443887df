#ifndef CAIRN_STORAGE_BLOB_SWEEPER_H_
#define CAIRN_STORAGE_BLOB_SWEEPER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "storage/blob_store.h"

namespace cairn {

// What one sweep did.
struct SweepResult {
  int64_t blobs_kept = 0;
  int64_t blobs_removed = 0;
  int64_t bytes_removed = 0;
};

// Removes blobs that no record names. It never races a writer: a blob goes
// only if it was neither stored nor touched for `grace`, and whoever writes
// the first record that names a blob stores or touches it first.
class BlobSweeper {
 public:
  // Calls `visit` with every blob that the records name now. Called after the
  // candidates were listed, so that what was named meanwhile is seen.
  using ForEachNamed = std::function<absl::Status(
      const std::function<void(const Digest&)>& visit)>;

  // `blobs` and `clock` must outlive it.
  BlobSweeper(BlobStore& blobs, Clock& clock, absl::Duration grace,
              ForEachNamed for_each_named);

  // One sweep over everything. When the names cannot be read nothing is
  // removed.
  absl::StatusOr<SweepResult> Sweep();

 private:
  BlobStore& blobs_;
  Clock& clock_;
  const absl::Duration grace_;
  const ForEachNamed for_each_named_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_BLOB_SWEEPER_H_
