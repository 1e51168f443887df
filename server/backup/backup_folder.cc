#include "server/backup/backup_folder.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/ops/record_walk.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlobListBytesMax = int64_t{1} << 30;
// The hub never reads it, and a backup is no place for it.
constexpr absl::string_view kRootKey = "root.key";

absl::Status CopyFiles(const std::string& from, const std::string& to) {
  CAIRN_RETURN_IF_ERROR(MakeDirectory(to, 0700));
  std::error_code error;
  for (fs::directory_iterator it(from, error);
       !error && it != fs::directory_iterator(); it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name == kRootKey || !it->is_regular_file(error)) continue;
    const fs::path target = fs::path(to) / name;
    fs::copy_file(it->path(), target, error);
    if (!error) fs::permissions(target, it->status().permissions(), error);
    if (error) break;
  }
  if (!error) return absl::OkStatus();
  return SystemError(error.value(), absl::StrCat("copy ", from, " to ", to));
}

}  // namespace

std::string SnapshotsPath(const std::string& directory) {
  return directory + "/snapshots";
}

absl::StatusOr<std::vector<std::string>> ListSnapshots(
    const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  const std::string path = SnapshotsPath(directory);
  for (fs::directory_iterator it(path, error);
       !error && it != fs::directory_iterator(); it.increment(error)) {
    if (fs::exists(it->path() / kSummaryFile) &&
        !absl::EndsWith(it->path().string(), ".partial")) {
      names.push_back(it->path().filename().string());
    }
  }
  if (error) return SystemError(error.value(), absl::StrCat("list ", path));
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::set<Digest>> NeededBlobs(const HubReader& reader,
                                             const BlobStore& blobs) {
  std::set<Digest> needed;
  absl::Status broken;
  CAIRN_RETURN_IF_ERROR(
      ForEachNamedBlob(reader, blobs, [&](const NamedBlob& named) {
        auto digest = Digest::Parse(named.sha256);
        if (digest.ok()) {
          needed.insert(*digest);
        } else if (broken.ok()) {
          broken = absl::DataLossError(absl::StrCat(
              named.record, " names a blob by \"", named.sha256, "\""));
        }
      }));
  CAIRN_RETURN_IF_ERROR(broken);
  return needed;
}

std::string FormatBlobList(const std::set<Digest>& blobs) {
  std::string text;
  for (const Digest& digest : blobs) absl::StrAppend(&text, digest.hex(), "\n");
  return text;
}

absl::StatusOr<std::set<Digest>> ReadBlobList(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(std::string text, ReadFile(path, kBlobListBytesMax));
  std::set<Digest> blobs;
  for (absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    auto digest = Digest::Parse(line);
    if (!digest.ok()) {
      return absl::DataLossError(
          absl::StrCat(path, ": \"", line, "\" is not a SHA-256"));
    }
    blobs.insert(*digest);
  }
  return blobs;
}

absl::Status CopyIdentity(const std::string& from, const std::string& to) {
  for (const char* folder : {"/tls", "/keys"}) {
    CAIRN_RETURN_IF_ERROR(CopyFiles(from + folder, to + folder));
  }
  return absl::OkStatus();
}

absl::Status BlobTransfer::Take(const Digest& digest) {
  absl::Status taken = to_.TakeFrom(from_, digest, how_);
  const bool cannot_link =
      absl::IsFailedPrecondition(taken) || absl::IsPermissionDenied(taken);
  if (how_ == FsBlobStore::Transfer::kLink && cannot_link) {
    how_ = FsBlobStore::Transfer::kCopy;
    taken = to_.TakeFrom(from_, digest, how_);
  }
  if (!absl::IsNotFound(taken)) return taken;
  return absl::DataLossError(
      absl::StrCat(taken.message(), ", which records need"));
}

}  // namespace cairn
