#include "server/release/release_resolver.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

using store::v1::ReleaseRecord;
using store::v1::TagRecord;

constexpr size_t kCandidatesMax = 1000;

bool IsHexPrefix(absl::string_view text) {
  return text.size() >= kHexPrefixMin && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

ReleaseVersion VersionOf(const ReleaseRecord& record) {
  return ReleaseVersion::Parse(record.release().version())
      .value_or(ReleaseVersion{0, 0, 0});
}

absl::StatusOr<std::optional<ReleaseRecord>> ByHexPrefix(
    const HubReader& reader, const ModelName& model, absl::string_view hex) {
  std::string value = ReleaseIndexValue(model.full(), hex);
  std::optional<ReleaseRecord> newest;
  for (absl::string_view index : {kReleaseByDigest, kReleaseByCommit}) {
    CAIRN_ASSIGN_OR_RETURN(auto found, reader.FindByPrefix<ReleaseRecord>(
                                           index, value, kCandidatesMax));
    for (ReleaseRecord& record : found) {
      if (!newest.has_value() || VersionOf(record) > VersionOf(*newest)) {
        newest = std::move(record);
      }
    }
  }
  return newest;
}

}  // namespace

absl::StatusOr<ReleaseRecord> ResolveRelease(const HubReader& reader,
                                             const ReleaseName& reference) {
  const std::string& id = reference.id();
  if (ReleaseVersion::Parse(id).has_value()) {
    return reader.Get<ReleaseRecord>(reference.full());
  }
  CAIRN_ASSIGN_OR_RETURN(TagName tag, TagName::From(reference.model(), id));
  CAIRN_ASSIGN_OR_RETURN(auto tagged, reader.Find<TagRecord>(tag.full()));
  if (tagged.has_value()) {
    return reader.Get<ReleaseRecord>(tagged->tag().release());
  }
  if (IsHexPrefix(id)) {
    CAIRN_ASSIGN_OR_RETURN(auto found,
                           ByHexPrefix(reader, reference.model(), id));
    if (found.has_value()) return *std::move(found);
  }
  return absl::NotFoundError(
      absl::StrCat(reference.model().full(), " has no release '", id,
                   "'; a reference is a version (v1.2.0), a tag, or at least ",
                   kHexPrefixMin, " hex digits of a digest or commit"));
}

absl::StatusOr<ReleaseRecord> ResolveReference(const HubReader& reader,
                                               const ModelName& model,
                                               absl::string_view reference) {
  if (absl::StrContains(reference, '/')) {
    CAIRN_ASSIGN_OR_RETURN(ReleaseName name, ReleaseName::Parse(reference));
    if (name.model() != model) {
      return absl::InvalidArgumentError(absl::StrCat(
          name.full(), " is a release of another model than ", model.full()));
    }
    return ResolveRelease(reader, name);
  }
  absl::ConsumePrefix(&reference, "sha256:");
  CAIRN_ASSIGN_OR_RETURN(ReleaseName name, ReleaseName::From(model, reference));
  return ResolveRelease(reader, name);
}

absl::StatusOr<std::optional<ReleaseVersion>> HighestVersion(
    const HubReader& reader, const ModelName& model) {
  CAIRN_ASSIGN_OR_RETURN(auto all, reader.ListAll<ReleaseRecord>(
                                       ReleaseName::Parent(model), 1'000'000));
  std::optional<ReleaseVersion> highest;
  for (const ReleaseRecord& record : all) {
    ReleaseVersion version = VersionOf(record);
    if (!highest.has_value() || version > *highest) highest = version;
  }
  return highest;
}

}  // namespace cairn
