#include "server/flow/resource_names.h"

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace cairn {
namespace {

constexpr size_t kIdBytesMax = 128;
constexpr size_t kChosenIdBytesMax = 64;

bool IsPunctuation(char c) { return c == '-' || c == '_' || c == '.'; }

absl::Status BadName(absl::string_view name, absl::string_view shape) {
  return absl::InvalidArgumentError(absl::StrCat(
      "'", name.substr(0, 200), "' is not a name of the form ", shape));
}

}  // namespace

bool IsResourceId(absl::string_view id) {
  if (id.empty() || id.size() > kIdBytesMax) return false;
  if (id.front() == '.' || id.front() == '-') return false;
  return std::all_of(id.begin(), id.end(), [](unsigned char c) {
    return absl::ascii_isalnum(c) || IsPunctuation(static_cast<char>(c));
  });
}

bool IsChosenId(absl::string_view id) {
  if (id.size() > kChosenIdBytesMax || !IsResourceId(id)) return false;
  if (IsPunctuation(id.front())) return false;
  return std::none_of(id.begin(), id.end(),
                      [](unsigned char c) { return absl::ascii_isupper(c); });
}

absl::string_view ShortName(absl::string_view name) {
  size_t slash = name.rfind('/');
  return slash == absl::string_view::npos ? name : name.substr(slash + 1);
}

absl::string_view ModelOf(absl::string_view name) {
  constexpr absl::string_view kModels = "models/";
  if (!absl::StartsWith(name, kModels)) return "";
  return name.substr(0, name.find('/', kModels.size()));
}

namespace internal {

absl::StatusOr<std::string> ParseTopLevel(absl::string_view name,
                                          absl::string_view collection) {
  absl::string_view id = name;
  if (!absl::ConsumePrefix(&id, collection) || !absl::ConsumePrefix(&id, "/") ||
      !IsResourceId(id)) {
    return BadName(name, absl::StrCat(collection, "/ID"));
  }
  return std::string(id);
}

absl::StatusOr<std::pair<std::string, std::string>> ParseModelChild(
    absl::string_view name, absl::string_view collection) {
  std::vector<absl::string_view> parts = absl::StrSplit(name, '/');
  if (parts.size() != 4 || parts[0] != "models" || parts[2] != collection ||
      !IsResourceId(parts[1]) || !IsResourceId(parts[3])) {
    return BadName(name, absl::StrCat("models/MODEL/", collection, "/ID"));
  }
  return std::pair(std::string(parts[1]), std::string(parts[3]));
}

}  // namespace internal

absl::StatusOr<ReplayName> ReplayName::Parse(absl::string_view name) {
  std::vector<absl::string_view> parts = absl::StrSplit(name, "/replays/");
  if (parts.size() == 2 && IsResourceId(parts[1])) {
    auto release = ReleaseName::Parse(parts[0]);
    if (release.ok()) {
      return ReplayName(*std::move(release), std::string(parts[1]));
    }
  }
  return BadName(name, "models/MODEL/releases/VERSION/replays/ID");
}

absl::StatusOr<ReplayName> ReplayName::From(const ReleaseName& release,
                                            absl::string_view id) {
  return Parse(absl::StrCat(release.full(), "/replays/", id));
}

}  // namespace cairn
