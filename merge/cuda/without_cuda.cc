#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/device_name.h"
#include "core/base/status_macros.h"
#include "merge/cuda/open_device.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<TileDevice>> OpenTileDevice(
    absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(const std::optional<int> index, ParseDeviceName(name));
  if (!index) return nullptr;
  return absl::FailedPreconditionError(absl::StrCat(
      "device ", name,
      ": this program was built without CUDA; build it where a CUDA toolkit "
      "is installed, with -DCAIRN_CUDA=ON, or use --device cpu"));
}

}  // namespace cairn
