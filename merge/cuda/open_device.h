#ifndef CAIRN_MERGE_CUDA_OPEN_DEVICE_H_
#define CAIRN_MERGE_CUDA_OPEN_DEVICE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "merge/engine/tile_device.h"

namespace cairn {

// A device by its name, "cuda" or "cuda:N"; null for "cpu", which needs none.
// INVALID_ARGUMENT for any other name, FAILED_PRECONDITION when this program
// was built without CUDA or there is no such device.
absl::StatusOr<std::unique_ptr<TileDevice>> OpenTileDevice(
    absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_MERGE_CUDA_OPEN_DEVICE_H_
