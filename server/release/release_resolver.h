#ifndef CAIRN_SERVER_RELEASE_RELEASE_RESOLVER_H_
#define CAIRN_SERVER_RELEASE_RELEASE_RESOLVER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/flow/hub_store.h"
#include "server/flow/resource_names.h"
#include "server/release/release_version.h"

namespace cairn {

// Shortest prefix of a digest or commit that names a release.
inline constexpr size_t kHexPrefixMin = 8;

// The release that a reference names, tried in this order: version, tag,
// prefix of a digest or commit of at least 8 hex digits (several releases: the
// newest). NOT_FOUND otherwise.
absl::StatusOr<store::v1::ReleaseRecord> ResolveRelease(
    const HubReader& reader, const ReleaseName& reference);

// The same for what a request holds: a full name, or a bare reference within
// `model`.
absl::StatusOr<store::v1::ReleaseRecord> ResolveReference(
    const HubReader& reader, const ModelName& model,
    absl::string_view reference);

// The highest version that a model ever had; nullopt before the first.
absl::StatusOr<std::optional<ReleaseVersion>> HighestVersion(
    const HubReader& reader, const ModelName& model);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_RESOLVER_H_
