#ifndef CAIRN_MERGE_ENGINE_OUTPUT_EXECUTOR_H_
#define CAIRN_MERGE_ENGINE_OUTPUT_EXECUTOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/engine/model_writer.h"
#include "merge/engine/output_plan.h"
#include "merge/engine/tile_device.h"

namespace cairn {

struct OutputRun {
  // Set from outside to stop: CANCELLED, and what is done can be taken up.
  const std::atomic<bool>* is_cancelled = nullptr;
  // Told of the bytes done so far of cost.bytes_written.
  std::function<void(int64_t)> progress = nullptr;
  // Merges what has a formula and is large enough; null: the processor does.
  TileDevice* device = nullptr;
};

// What a run made and of what.
struct OutputResult {
  std::map<std::string, std::string> sha256;  // of each tensor
  // Of each source of the plan, a hash of all that was read of it. Not a
  // cryptographic one: it tells that an input has changed.
  std::vector<std::string> sources;
};

// Runs a bound plan: tensors over threads, largest first; each is read tile by
// tile into buffers that are used again, merged, rounded, hashed and written.
// The bytes depend on no thread, tile, memory or device. INVALID_ARGUMENT with
// NON_FINITE, naming the tensor, when the result has a NaN or infinity.
absl::StatusOr<OutputResult> RunOutputs(const OutputPlan& plan,
                                        const OutputCost& cost,
                                        ModelWriter& writer,
                                        const OutputRun& run);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_OUTPUT_EXECUTOR_H_
