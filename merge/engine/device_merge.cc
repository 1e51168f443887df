#include "merge/engine/device_merge.h"

#include <algorithm>

#include "core/base/status_macros.h"

namespace cairn {

bool IsForDevice(const PlannedOutput& output, const TensorMethod& method) {
  return output.spec().elements() >= kDeviceElementsMin &&
         method.Formula().has_value();
}

bool IsForDevice(const PlannedOutput& output) {
  if (output.method == nullptr) return false;
  const auto method = MakeMethod(*output.method, output.task);
  return method.ok() && IsForDevice(output, **method);
}

absl::Status MergeOnDevice(TileQueue& queue, const TileWork& work,
                           int64_t elements, int64_t tile_elements,
                           ReadPacked read, EmitPacked emit) {
  const int64_t step = std::min(tile_elements, elements);
  CAIRN_RETURN_IF_ERROR(queue.Begin(work, static_cast<size_t>(step)));
  const int64_t tiles = (elements + step - 1) / step;
  const auto finish = [&](int64_t tile) -> absl::Status {
    const auto slot = static_cast<int>(tile % TileQueue::kSlots);
    CAIRN_ASSIGN_OR_RETURN(const absl::Span<const char> packed,
                           queue.Finish(slot));
    return emit(tile * step, packed);
  };
  for (int64_t tile = 0; tile < tiles; ++tile) {
    if (tile >= TileQueue::kSlots) {
      CAIRN_RETURN_IF_ERROR(finish(tile - TileQueue::kSlots));
    }
    const auto slot = static_cast<int>(tile % TileQueue::kSlots);
    const int64_t first = tile * step;
    const auto count = static_cast<size_t>(std::min(step, elements - first));
    for (size_t input = 0; input < work.inputs.size(); ++input) {
      CAIRN_RETURN_IF_ERROR(
          read(input, first, count, queue.Input(slot, input)));
    }
    CAIRN_RETURN_IF_ERROR(queue.Start(slot, first, count));
  }
  for (int64_t tile = std::max<int64_t>(0, tiles - TileQueue::kSlots);
       tile < tiles; ++tile) {
    CAIRN_RETURN_IF_ERROR(finish(tile));
  }
  return absl::OkStatus();
}

}  // namespace cairn
