#ifndef CAIRN_CORE_BASE_ORDERED_WORK_H_
#define CAIRN_CORE_BASE_ORDERED_WORK_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace cairn {

// Runs make(worker, piece) for every piece in [0, pieces) on up to `threads`
// threads, several at once, and take(worker, piece) after it, one at a time in
// the order of the pieces: what is made out of order is put together in order.
// `worker` in [0, threads) names the thread, for buffers that are used again.
// Pieces start in order, and none starts after a failure. Returns the failure
// of the smallest piece.
absl::Status RunOrdered(int threads, int64_t pieces,
                        absl::FunctionRef<absl::Status(int, int64_t)> make,
                        absl::FunctionRef<absl::Status(int, int64_t)> take);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_ORDERED_WORK_H_
