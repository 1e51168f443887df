#ifndef CAIRN_STORAGE_BLOB_PACKER_H_
#define CAIRN_STORAGE_BLOB_PACKER_H_

#include <cstdint>
#include <functional>

#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/digest.h"
#include "storage/blob_packing.h"
#include "storage/blob_store.h"
#include "storage/pacer.h"

namespace cairn {

// What one run did.
struct PackTally {
  int64_t blobs_packed = 0;
  int64_t bytes_read = 0;
};

// Packs blobs in the background, round after round over the whole store at a
// bounded rate. Needs no memory of its own: after a restart it looks at every
// plain blob once more. Not thread-safe.
class BlobPacker {
 public:
  struct Options {
    // 0: nothing is packed.
    int64_t bytes_per_second = 64 << 20;
    // A blob is left plain for so long after it was stored or touched: it is
    // read most while it is new.
    absl::Duration min_age = absl::Minutes(10);
    // Between two rounds.
    absl::Duration round_pause = absl::Minutes(10);
  };

  // All must outlive it. `packing` is the store, or what it is made of.
  BlobPacker(const BlobStore& blobs, BlobPacking& packing, Clock& clock,
             Options options);

  // Goes on until the rate is used up, the round is over, or `go_on` says
  // false. RESOURCE_EXHAUSTED when there is no room to pack; damaged blobs are
  // passed over.
  absl::StatusOr<PackTally> Run(const std::function<bool()>& go_on);

 private:
  // OK to go on with the next blob.
  absl::Status PackOne(const BlobStat& stat, const std::function<bool()>& go_on,
                       PackTally& tally);

  const BlobStore& blobs_;
  BlobPacking& packing_;
  Clock& clock_;
  const Options options_;
  Pacer pacer_;
  // Where the round goes on.
  Digest position_;
  absl::Duration next_round_;  // monotonic
  // Blobs that were looked at and stay plain.
  absl::flat_hash_set<Digest> plain_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_BLOB_PACKER_H_
