#ifndef CAIRN_CORE_DELTA_COUNTERPART_H_
#define CAIRN_CORE_DELTA_COUNTERPART_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// The tensor of the older release that a newer one is coded against: of the
// same name, dtype and shape, but that it may have another number of rows, as
// where a vocabulary grew. Null when there is none.
const CheckpointTensor* FindCounterpart(const Checkpoint& from,
                                        const TensorEntry& tensor);

// Fills `out` with the counterpart's bytes from `begin` on; zeros where it has
// no rows any more.
absl::Status ReadCounterpart(const Checkpoint& from,
                             const CheckpointTensor& counterpart, int64_t begin,
                             absl::Span<char> out);

}  // namespace cairn

#endif  // CAIRN_CORE_DELTA_COUNTERPART_H_
