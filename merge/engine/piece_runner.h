#ifndef CAIRN_MERGE_ENGINE_PIECE_RUNNER_H_
#define CAIRN_MERGE_ENGINE_PIECE_RUNNER_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"

namespace cairn {

// Runs work(worker, piece) for every piece in [0, pieces) on up to `threads`
// threads; `worker` in [0, threads) names the thread, for buffers that are
// used again. Pieces start in order and none starts after a failure. Returns
// the failure of the smallest piece.
absl::Status RunPieces(int threads, int64_t pieces,
                       absl::FunctionRef<absl::Status(int, int64_t)> work);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_PIECE_RUNNER_H_
