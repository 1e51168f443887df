#ifndef CAIRN_SERVER_FLOW_RESOURCE_NAMES_H_
#define CAIRN_SERVER_FLOW_RESOURCE_NAMES_H_

#include <algorithm>
#include <compare>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace cairn {

// True for an id within a name: 1 to 128 letters, digits, '-', '_' and '.',
// not starting with '.' or '-'.
bool IsResourceId(absl::string_view id);
// True for an id that a person chooses for a model, user or suite: lower-case
// letters, digits, '-', '_', '.', at most 64, starting with a letter or digit.
bool IsChosenId(absl::string_view id);

namespace internal {

template <size_t N>
struct CollectionName {
  // NOLINTNEXTLINE(google-explicit-constructor): a literal in a template list.
  constexpr CollectionName(const char (&literal)[N]) {
    std::copy_n(literal, N, text);
  }
  char text[N];
};

// The id of "collection/ID"; INVALID_ARGUMENT naming `collection` otherwise.
absl::StatusOr<std::string> ParseTopLevel(absl::string_view name,
                                          absl::string_view collection);
// Ids of "models/M/collection/C".
absl::StatusOr<std::pair<std::string, std::string>> ParseModelChild(
    absl::string_view name, absl::string_view collection);

}  // namespace internal

// "collection/ID", e.g. "models/tiny-llama". Made only by Parse and From.
template <internal::CollectionName kCollection>
class TopLevelName {
 public:
  static absl::StatusOr<TopLevelName> Parse(absl::string_view name) {
    auto id = internal::ParseTopLevel(name, kCollection.text);
    if (!id.ok()) return id.status();
    return TopLevelName(*std::move(id));
  }
  static absl::StatusOr<TopLevelName> From(absl::string_view id) {
    return Parse(absl::StrCat(kCollection.text, "/", id));
  }
  const std::string& id() const { return id_; }
  std::string full() const { return absl::StrCat(kCollection.text, "/", id_); }
  friend auto operator<=>(const TopLevelName&, const TopLevelName&) = default;

 private:
  explicit TopLevelName(std::string id) : id_(std::move(id)) {}
  std::string id_;
};

using ModelName = TopLevelName<"models">;
using UserName = TopLevelName<"users">;
using JobName = TopLevelName<"jobs">;
using SessionName = TopLevelName<"sessions">;
using UploadName = TopLevelName<"uploads">;

// "models/M/collection/C", e.g. "models/tiny-llama/releases/v1.0.0".
template <internal::CollectionName kCollection>
class ModelChildName {
 public:
  static absl::StatusOr<ModelChildName> Parse(absl::string_view name) {
    auto ids = internal::ParseModelChild(name, kCollection.text);
    if (!ids.ok()) return ids.status();
    return ModelChildName(std::move(ids->first), std::move(ids->second));
  }
  static absl::StatusOr<ModelChildName> From(const ModelName& model,
                                             absl::string_view id) {
    return Parse(absl::StrCat(Parent(model), id));
  }
  // "models/M/collection/": what names of a model's children start with.
  static std::string Parent(const ModelName& model) {
    return absl::StrCat(model.full(), "/", kCollection.text, "/");
  }
  const std::string& id() const { return id_; }
  ModelName model() const { return *ModelName::From(model_); }
  std::string full() const {
    return absl::StrCat("models/", model_, "/", kCollection.text, "/", id_);
  }
  friend auto operator<=>(const ModelChildName&,
                          const ModelChildName&) = default;

 private:
  ModelChildName(std::string model, std::string id)
      : model_(std::move(model)), id_(std::move(id)) {}
  std::string model_;
  std::string id_;
};

// A release by its version, or by any other reference where a request allows
// one (tag, digest prefix, commit prefix).
using ReleaseName = ModelChildName<"releases">;
using ContributionName = ModelChildName<"contributions">;
using SuiteName = ModelChildName<"suites">;
using TagName = ModelChildName<"tags">;
using BatchName = ModelChildName<"batches">;

// "models/M/releases/V/replays/R".
class ReplayName {
 public:
  static absl::StatusOr<ReplayName> Parse(absl::string_view name);
  static absl::StatusOr<ReplayName> From(const ReleaseName& release,
                                         absl::string_view id);
  const ReleaseName& release() const { return release_; }
  const std::string& id() const { return id_; }
  std::string full() const {
    return absl::StrCat(release_.full(), "/replays/", id_);
  }

 private:
  ReplayName(ReleaseName release, std::string id)
      : release_(std::move(release)), id_(std::move(id)) {}
  ReleaseName release_;
  std::string id_;
};

// The last segment of a name: "c" of "models/m/suites/c".
absl::string_view ShortName(absl::string_view name);
// "models/M" of any name below a model; empty when there is none.
absl::string_view ModelOf(absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_RESOURCE_NAMES_H_
