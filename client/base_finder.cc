#include "client/base_finder.h"

#include <filesystem>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/v1/release.grpc.pb.h"
#include "client/hash_source.h"
#include "client/names.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

using v1::ReleaseService;

absl::StatusOr<v1::Release> MatchRelease(HubChannel& hub,
                                         const std::string& model,
                                         const std::string& digest) {
  v1::MatchReleaseRequest request;
  request.set_parent(model);
  request.set_digest(digest);
  return hub.Call(&ReleaseService::Stub::MatchRelease, request);
}

// The digest that cairn-release.json in `directory` claims; empty without a
// readable one.
std::string DocumentDigest(const std::string& directory) {
  auto text = ReadFile(absl::StrCat(directory, "/", kReleaseDocumentFile));
  if (!text.ok()) return "";
  auto document = ParseReleaseDocument(*text);
  return document.ok() ? document->digest() : "";
}

// The release digest of what lies in `directory`.
absl::StatusOr<std::string> DirectoryDigest(const std::string& directory) {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                         Checkpoint::OpenDirectory(directory));
  CAIRN_ASSIGN_OR_RETURN(v1::TensorManifest tensors,
                         MakeTensorManifest(checkpoint));
  std::vector<v1::File> files;
  for (const auto& [path, source] : checkpoint.files()) {
    if (!CountsForDigest(path) || !CheckReleaseFile(path).ok()) continue;
    v1::File& file = files.emplace_back();
    file.set_path(path);
    CAIRN_ASSIGN_OR_RETURN(Digest sha256, HashSource(*source));
    file.set_sha256(sha256.hex());
  }
  return ReleaseDigest(tensors, files);
}

// The base by the directory a trainer noted; none when that tells nothing.
absl::StatusOr<std::optional<FoundBase>> FindByDirectory(
    HubChannel& hub, const std::string& model, const std::string& directory) {
  std::error_code error;
  if (directory.empty() || !std::filesystem::is_directory(directory, error)) {
    return std::nullopt;
  }
  std::string digest = DocumentDigest(directory);
  bool is_whole = false;
  if (digest.empty()) {
    auto computed = DirectoryDigest(directory);
    if (!computed.ok()) return std::nullopt;
    digest = *std::move(computed);
    is_whole = true;
  }
  auto release = MatchRelease(hub, model, digest);
  if (absl::IsNotFound(release.status())) return std::nullopt;
  CAIRN_RETURN_IF_ERROR(release.status());
  FoundBase found;
  found.release = *std::move(release);
  if (is_whole) found.directory = directory;
  return found;
}

}  // namespace

absl::StatusOr<v1::Release> GetRelease(HubChannel& hub,
                                       const std::string& name) {
  v1::GetReleaseRequest request;
  request.set_name(name);
  return hub.Call(&ReleaseService::Stub::GetRelease, request);
}

absl::StatusOr<FoundBase> FindBase(HubChannel& hub, const std::string& model,
                                   const BaseHints& hints) {
  FoundBase found;
  if (!hints.reference.empty()) {
    CAIRN_ASSIGN_OR_RETURN(
        found.release, GetRelease(hub, ReleaseName(model, hints.reference)));
    return found;
  }
  if (!hints.digest.empty()) {
    auto release = MatchRelease(hub, model, hints.digest);
    if (absl::IsNotFound(release.status())) {
      return ReasonedError(
          absl::StatusCode::kFailedPrecondition, "BASE_DIGEST_MISMATCH",
          absl::StrCat("the update was made on ", hints.digest,
                       ", which is no release of ", model,
                       "; make it again on a release that `cairn release list ",
                       model, "` shows"),
          {{"base", hints.digest}, {"model", model}});
    }
    CAIRN_RETURN_IF_ERROR(release.status());
    found.release = *std::move(release);
    return found;
  }
  CAIRN_ASSIGN_OR_RETURN(auto local, FindByDirectory(hub, model, hints.path));
  if (local.has_value()) return *std::move(local);
  if (!hints.revision.empty()) {
    auto release = GetRelease(hub, ReleaseName(model, hints.revision));
    if (release.ok()) {
      found.release = *std::move(release);
      return found;
    }
    if (!absl::IsNotFound(release.status()) &&
        !absl::IsInvalidArgument(release.status())) {
      return release.status();
    }
  }
  CAIRN_ASSIGN_OR_RETURN(found.release,
                         GetRelease(hub, ReleaseName(model, "latest")));
  found.is_inferred = true;
  return found;
}

}  // namespace cairn
