#include "client/names.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace cairn {
namespace {

std::vector<std::string> Segments(absl::string_view text) {
  return absl::StrSplit(absl::StripPrefix(text, "models/"), '/');
}

bool AnyEmpty(const std::vector<std::string>& segments) {
  for (const std::string& segment : segments) {
    if (segment.empty()) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::string> ModelName(absl::string_view text) {
  std::vector<std::string> segments = Segments(text);
  if (segments.size() != 1 || AnyEmpty(segments)) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text, "` names no model; write M or models/M"));
  }
  return absl::StrCat("models/", segments[0]);
}

absl::StatusOr<std::string> ItemName(absl::string_view text,
                                     absl::string_view collection) {
  std::vector<std::string> segments = Segments(text);
  const bool is_full = segments.size() == 3 && segments[1] == collection;
  if (AnyEmpty(segments) || !(is_full || segments.size() == 2)) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text, "` does not say which of ", collection,
                     " is meant; write models/M/", collection, "/ID or M/ID"));
  }
  return absl::StrCat("models/", segments[0], "/", collection, "/",
                      segments.back());
}

std::string ModelOf(absl::string_view name) {
  std::vector<std::string> segments = absl::StrSplit(name, '/');
  if (segments.size() > 2) segments.resize(2);
  return absl::StrJoin(segments, "/");
}

std::string ShortName(absl::string_view name) {
  return std::string(name.substr(name.rfind('/') + 1));
}

std::string ReleaseRef::name() const { return ReleaseName(model, ref); }

absl::StatusOr<ReleaseRef> ParseReleaseRef(absl::string_view text) {
  ReleaseRef out;
  absl::string_view rest = text;
  if (size_t hash = rest.find('#'); hash != absl::string_view::npos) {
    out.flavour = std::string(rest.substr(hash + 1));
    rest = rest.substr(0, hash);
  }
  if (std::vector<std::string> parts = Segments(rest);
      parts.size() == 3 && parts[1] == "releases" && !AnyEmpty(parts)) {
    out.model = absl::StrCat("models/", parts[0]);
    out.ref = parts[2];
    return out;
  }
  if (size_t at = rest.find('@'); at != absl::string_view::npos) {
    out.ref = std::string(absl::StripPrefix(rest.substr(at + 1), "sha256:"));
    rest = rest.substr(0, at);
  }
  auto model = ModelName(rest);
  if (!model.ok() || out.ref.empty() || absl::StrContains(out.ref, '/')) {
    return absl::InvalidArgumentError(
        absl::StrCat("`", text,
                     "` names no release; write M, M@v1.0.0, M@TAG "
                     "or M@DIGEST"));
  }
  out.model = *std::move(model);
  return out;
}

std::string ReleaseName(absl::string_view model, absl::string_view ref) {
  if (absl::StartsWith(ref, absl::StrCat(model, "/releases/"))) {
    return std::string(ref);
  }
  return absl::StrCat(model, "/releases/", absl::StripPrefix(ref, "sha256:"));
}

}  // namespace cairn
