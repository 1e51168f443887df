#ifndef CAIRN_STORAGE_BLOB_SCRUBBER_H_
#define CAIRN_STORAGE_BLOB_SCRUBBER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "storage/blob_store.h"
#include "storage/pacer.h"

namespace cairn {

// Reads a blob whole and compares its digest. NOT_FOUND when there is none;
// DATA_LOSS naming the blob when its bytes changed or cannot be read;
// CANCELLED once `go_on` says false.
absl::Status VerifyBlob(const BlobStore& blobs, const Digest& digest,
                        const std::function<bool()>& go_on);

// A blob that does not have its digest.
struct DamagedBlob {
  Digest digest;
  std::string what;
};

// What one run did.
struct ScrubTally {
  // Where to go on; nothing when the end of the store was reached.
  std::optional<Digest> next = {};
  int64_t blobs = 0;
  int64_t bytes = 0;
  // Those that are sound; whoever remembers one as damaged may forget it.
  std::vector<Digest> sound = {};
  std::vector<DamagedBlob> damaged = {};
};

// Reads the whole store over and over at a bounded rate, to find bytes that
// changed on the disk. Not thread-safe.
class BlobScrubber {
 public:
  // Both must outlive it. A rate of 0 reads nothing.
  BlobScrubber(const BlobStore& blobs, Clock& clock, int64_t bytes_per_second)
      : blobs_(blobs), pacer_(clock, bytes_per_second) {}

  // Goes through the blobs from `from` on, in the order of digests, until the
  // rate is used up or `go_on` says false.
  absl::StatusOr<ScrubTally> Run(const Digest& from,
                                 const std::function<bool()>& go_on);

 private:
  const BlobStore& blobs_;
  Pacer pacer_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_BLOB_SCRUBBER_H_
