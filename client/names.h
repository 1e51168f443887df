#ifndef CAIRN_CLIENT_NAMES_H_
#define CAIRN_CLIENT_NAMES_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// What people type, as full resource names. Short forms leave out "models/"
// and, where only one kind of thing can be meant, the collection. Whether an
// id is well-formed is for the hub to say. INVALID_ARGUMENT naming the form
// that is understood.

// "M" or "models/M".
absl::StatusOr<std::string> ModelName(absl::string_view text);

// "M/ID", "M/COLLECTION/ID" or "models/M/COLLECTION/ID"; e.g. collection
// "contributions".
absl::StatusOr<std::string> ItemName(absl::string_view text,
                                     absl::string_view collection);

// The model of a full name: "models/M/contributions/C" -> "models/M".
std::string ModelOf(absl::string_view name);

// The last segment: "models/M/releases/v1.0.0" -> "v1.0.0".
std::string ShortName(absl::string_view name);

// MODEL[@REF][#FLAVOUR].
struct ReleaseRef {
  // models/M.
  std::string model;
  // Version, tag, digest or commit prefix.
  std::string ref = "latest";
  std::string flavour;

  // models/M/releases/REF.
  std::string name() const;
};
// Also takes the full name of a release. A digest may have its "sha256:".
absl::StatusOr<ReleaseRef> ParseReleaseRef(absl::string_view text);

// A reference within `model`, as a full name: "v1.0.0", "stable",
// "models/M/releases/v1.0.0".
std::string ReleaseName(absl::string_view model, absl::string_view ref);

}  // namespace cairn

#endif  // CAIRN_CLIENT_NAMES_H_
