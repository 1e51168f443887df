#include "core/base/device_name.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace cairn {

absl::StatusOr<std::optional<int>> ParseDeviceName(absl::string_view text) {
  if (text == "cpu") return std::optional<int>();
  absl::string_view number = text;
  int index = 0;
  if (absl::ConsumePrefix(&number, "cuda") &&
      (number.empty() ||
       (absl::ConsumePrefix(&number, ":") && absl::SimpleAtoi(number, &index) &&
        index >= 0))) {
    return std::optional<int>(index);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "device `", text, "` is unknown; it should be cpu or cuda:N"));
}

}  // namespace cairn
