#include "server/release/release_version.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace cairn {

std::optional<ReleaseVersion> ReleaseVersion::Parse(absl::string_view text) {
  if (!absl::ConsumePrefix(&text, "v")) return std::nullopt;
  std::vector<absl::string_view> parts = absl::StrSplit(text, '.');
  if (parts.size() != 3) return std::nullopt;
  ReleaseVersion out;
  int64_t* const numbers[] = {&out.major, &out.minor, &out.patch};
  for (size_t i = 0; i < 3; ++i) {
    // The round trip refuses signs, spaces and leading zeros.
    if (!absl::SimpleAtoi(parts[i], numbers[i]) || *numbers[i] < 0 ||
        absl::StrCat(*numbers[i]) != parts[i]) {
      return std::nullopt;
    }
  }
  return out;
}

std::string ReleaseVersion::text() const {
  return absl::StrCat("v", major, ".", minor, ".", patch);
}

}  // namespace cairn
