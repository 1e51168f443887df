#include "merge/worker/release_cache.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/rpc/blob_download.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kPartial[] = ".partial";

int64_t FolderBytes(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end;
       !error && it != end; it.increment(error)) {
    if (it->is_regular_file(error)) {
      bytes += static_cast<int64_t>(it->file_size(error));
    }
  }
  return bytes;
}

}  // namespace

ReleaseCache::ReleaseCache(std::string directory, int64_t bytes_max)
    : directory_(std::move(directory)), bytes_max_(bytes_max) {}

std::string ReleaseCache::FolderOf(absl::string_view digest) const {
  return absl::StrCat(directory_, "/", absl::StripPrefix(digest, "sha256:"));
}

absl::Status ReleaseCache::Fetch(HubChannel& hub,
                                 const v1::ReleaseInput& release,
                                 const std::set<std::string>& in_use) {
  CAIRN_RETURN_IF_ERROR(Digest::Parse(release.digest()).status());
  const std::string folder = FolderOf(release.digest());
  std::error_code error;
  if (fs::is_directory(folder, error)) {
    fs::last_write_time(folder, fs::file_time_type::clock::now(), error);
    return absl::OkStatus();
  }
  int64_t bytes = 0;
  for (const v1::File& file : release.files()) bytes += file.size_bytes();
  MakeRoom(bytes, in_use);
  const std::string partial = folder + kPartial;
  for (const v1::File& file : release.files()) {
    if (file.path() == kReleaseDocumentFile) continue;
    CAIRN_RETURN_IF_ERROR(CheckRelativePath(file.path()));
    const fs::path target = fs::path(partial) / file.path();
    CAIRN_RETURN_IF_ERROR(MakeDirectory(target.parent_path()));
    if (fs::exists(target, error)) continue;
    v1::ReadRequest request;
    request.mutable_release_file()->set_release(release.name());
    request.mutable_release_file()->set_path(file.path());
    CAIRN_RETURN_IF_ERROR(Annotate(
        DownloadFile(hub, request, file.sha256(), file.size_bytes(), target),
        absl::StrCat("fetch ", file.path(), " of ", release.name())));
  }
  fs::rename(partial, folder, error);
  if (error) return SystemError(error.value(), "rename " + partial);
  return absl::OkStatus();
}

void ReleaseCache::Remove(absl::string_view digest) {
  std::error_code ignored;
  fs::remove_all(FolderOf(digest), ignored);
}

void ReleaseCache::MakeRoom(int64_t bytes,
                            const std::set<std::string>& in_use) {
  struct Folder {
    fs::file_time_type used;
    fs::path path;
    int64_t bytes;
  };
  std::vector<Folder> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory_, error)) {
    folders.push_back({entry.last_write_time(error), entry.path(),
                       FolderBytes(entry.path())});
    bytes += folders.back().bytes;
  }
  std::sort(folders.begin(), folders.end(),
            [](const Folder& a, const Folder& b) { return a.used < b.used; });
  for (const Folder& folder : folders) {
    if (bytes <= bytes_max_) return;
    std::string name = folder.path.filename();
    if (absl::EndsWith(name, kPartial)) {
      name.resize(name.size() - (sizeof(kPartial) - 1));
    }
    if (in_use.contains("sha256:" + name) || in_use.contains(name)) continue;
    fs::remove_all(folder.path, error);
    bytes -= folder.bytes;
  }
}

}  // namespace cairn
