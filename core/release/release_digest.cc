#include "core/release/release_digest.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/release/file_policy.h"

namespace cairn {

bool CountsForDigest(absl::string_view path) {
  return !absl::EndsWith(path, ".safetensors") &&
         !absl::EndsWith(path, ".safetensors.index.json") &&
         path != "README.md" && !absl::StartsWith(path, "LICENSE") &&
         !absl::StartsWith(path, "NOTICE") && path != kReleaseDocumentFile;
}

std::string ReleaseDigest(const v1::TensorManifest& tensors,
                          absl::Span<const v1::File> files) {
  std::vector<const v1::Tensor*> by_name;
  for (const v1::Tensor& tensor : tensors.tensors()) by_name.push_back(&tensor);
  std::sort(by_name.begin(), by_name.end(),
            [](auto* a, auto* b) { return a->name() < b->name(); });
  std::vector<const v1::File*> by_path;
  for (const v1::File& file : files) {
    if (CountsForDigest(file.path())) by_path.push_back(&file);
  }
  std::sort(by_path.begin(), by_path.end(),
            [](auto* a, auto* b) { return a->path() < b->path(); });
  Hasher hasher;
  for (const v1::Tensor* tensor : by_name) {
    hasher.Update(absl::StrCat(
        "tensor ", JsonQuote(tensor->name()), " ", tensor->dtype(), " [",
        absl::StrJoin(tensor->shape(), ","), "] ", tensor->sha256(), "\n"));
  }
  for (const v1::File* file : by_path) {
    hasher.Update(absl::StrCat("file ", JsonQuote(file->path()), " ",
                               file->sha256(), "\n"));
  }
  return hasher.Finish().prefixed();
}

std::string ManifestDigest(absl::string_view manifest) {
  return Digest::Of(manifest).prefixed();
}

std::string CommitId(absl::string_view manifest_digest) {
  static constexpr char kDomain[] = "cairn.commit.v1";
  Hasher hasher;
  hasher.Update(absl::string_view(kDomain, sizeof(kDomain)));  // with its NUL
  hasher.Update(absl::StripPrefix(manifest_digest, "sha256:"));
  return hasher.FinishHex().substr(0, 40);
}

}  // namespace cairn
