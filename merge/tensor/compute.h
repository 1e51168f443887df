#ifndef CAIRN_MERGE_TENSOR_COMPUTE_H_
#define CAIRN_MERGE_TENSOR_COMPUTE_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace cairn {

// How tensor programs use a machine: independent pieces of work (items,
// tensors, tiles) run on threads of ours, and every libtorch operator inside
// one runs on its own thread alone. That is as fast as the other way round for
// the sizes we meet, and makes a result depend on its piece of work only.

// Processors that this process may run on, at least 1.
int AvailableProcessors();

// Prepares the process: matrix products use one thread, freed memory is kept
// for the next operator (first touch of a fresh page is slow). To be called
// once, early in main.
void InitCompute();

// Logs a warning when matrix products run at a small fraction of what this
// kind of machine can do, as with a reference BLAS, and says what to install.
void WarnIfMatrixProductsAreSlow();

// Runs work(i) for i in [0, count) on up to `threads` threads, the calling one
// among them; operators inside use one thread. Pieces start in order; none
// starts after a failure. Returns the failure of the smallest index, so that
// it does not depend on `threads`.
absl::Status ParallelFor(int threads, int64_t count,
                         absl::FunctionRef<absl::Status(int64_t)> work);

}  // namespace cairn

#endif  // CAIRN_MERGE_TENSOR_COMPUTE_H_
