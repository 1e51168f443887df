#ifndef CAIRN_STORAGE_BLOB_PACKING_H_
#define CAIRN_STORAGE_BLOB_PACKING_H_

#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "core/base/digest.h"

namespace cairn {

// What became of one blob.
struct PackOutcome {
  // Kept packed now, whoever packed it.
  bool is_packed = false;
  // Plain bytes that were read to find out.
  int64_t read_bytes = 0;
};

// A blob store that can keep blobs with fewer bytes. Packing changes nothing
// that readers see, loses nothing at a crash, and leaves a blob's `stored_at`
// as it is. Thread-safe.
class BlobPacking {
 public:
  virtual ~BlobPacking() = default;

  // Packs a blob if a quick look says that this pays. What was written is read
  // back and compared before the plain form goes. NOT_FOUND when there is no
  // such blob; CANCELLED once `go_on` says false; DATA_LOSS naming the blob
  // when it does not have its digest.
  virtual absl::StatusOr<PackOutcome> Pack(
      const Digest& digest, const std::function<bool()>& go_on) = 0;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_BLOB_PACKING_H_
