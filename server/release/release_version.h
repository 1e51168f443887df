#ifndef CAIRN_SERVER_RELEASE_RELEASE_VERSION_H_
#define CAIRN_SERVER_RELEASE_RELEASE_VERSION_H_

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// v1.2.3.
struct ReleaseVersion {
  int64_t major = 1;
  int64_t minor = 0;
  int64_t patch = 0;

  // nullopt unless `text` is "v", three numbers without leading zeros and
  // dots between them.
  static std::optional<ReleaseVersion> Parse(absl::string_view text);

  // After a merge; after a revert or repair.
  ReleaseVersion NextMinor() const { return {major, minor + 1, 0}; }
  ReleaseVersion NextPatch() const { return {major, minor, patch + 1}; }
  std::string text() const;

  friend auto operator<=>(const ReleaseVersion&,
                          const ReleaseVersion&) = default;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_VERSION_H_
