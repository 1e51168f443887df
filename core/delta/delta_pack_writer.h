#ifndef CAIRN_CORE_DELTA_DELTA_PACK_WRITER_H_
#define CAIRN_CORE_DELTA_DELTA_PACK_WRITER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "core/delta/low_rank_steps.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

struct DeltaPackOptions {
  // Digests of the releases, "sha256:" + hex; noted in the delta.
  std::string from_digest;
  std::string to_digest;
  int threads = 1;
  // What merges are known to have done to a tensor of `to`, called once a
  // tensor, from any thread; may be null. It need be neither the whole nor
  // true: it is used where it makes the delta shorter.
  std::function<absl::StatusOr<LowRankSteps>(const CheckpointTensor& tensor)>
      steps = nullptr;
  // Told the part done, 0 to 1; from one thread at a time.
  std::function<void(double fraction)> progress;
};

// A delta as it was written.
struct WrittenDelta {
  std::string sha256;
  int64_t size_bytes = 0;
};

// Writes what makes `to` of `from` to `path`: see DeltaPack. The bytes depend
// on the checkpoints and steps alone, not on the number of threads. Every piece
// is decoded again and compared before it counts. Each thread has some 40 MiB
// and the factors of a tensor.
absl::StatusOr<WrittenDelta> WriteDeltaPack(const Checkpoint& from,
                                            const Checkpoint& to,
                                            const std::string& path,
                                            const DeltaPackOptions& options);

}  // namespace cairn

#endif  // CAIRN_CORE_DELTA_DELTA_PACK_WRITER_H_
