#ifndef CAIRN_CORE_BASE_DEVICE_NAME_H_
#define CAIRN_CORE_BASE_DEVICE_NAME_H_

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// "cpu" gives none, "cuda:N" gives N, and "cuda" is "cuda:0".
// INVALID_ARGUMENT for anything else.
absl::StatusOr<std::optional<int>> ParseDeviceName(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_DEVICE_NAME_H_
