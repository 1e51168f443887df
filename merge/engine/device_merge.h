#ifndef CAIRN_MERGE_ENGINE_DEVICE_MERGE_H_
#define CAIRN_MERGE_ENGINE_DEVICE_MERGE_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "merge/engine/output_plan.h"
#include "merge/engine/tile_device.h"

namespace cairn {

// Tensors with fewer elements are merged by the processor: the way to a device
// and back would take longer.
inline constexpr int64_t kDeviceElementsMin = 1 << 16;

// Whether a device can merge it, and it is worth the way. Its parameters are
// known to go together.
bool IsForDevice(const PlannedOutput& output, const TensorMethod& method);
bool IsForDevice(const PlannedOutput& output);

// Fills `out` with packed elements of an input, from `first` on.
using ReadPacked =
    absl::FunctionRef<absl::Status(size_t input, int64_t first,
                                   size_t count, absl::Span<char> out)>;
// Takes packed elements of the result, in order.
using EmitPacked =
    absl::FunctionRef<absl::Status(int64_t first, absl::Span<const char>)>;

// Merges one tensor of `elements` on a device, in tiles of `tile_elements`:
// while one is on its way, the next is read and the last is emitted.
absl::Status MergeOnDevice(TileQueue& queue, const TileWork& work,
                           int64_t elements, int64_t tile_elements,
                           ReadPacked read, EmitPacked emit);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_DEVICE_MERGE_H_
