#include "server/release/local_exchange.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"
#include "server/release/file_assembly.h"
#include "server/release/file_export.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

using store::v1::ReleaseRecord;

bool LiesBelow(const std::string& path, const std::string& root) {
  return absl::StartsWith(path, root == "/" ? root : root + "/");
}

absl::Status Outside(const std::string& path, const std::string& root) {
  return ReasonedError(
      absl::StatusCode::kPermissionDenied, "NOT_PERMITTED",
      absl::StrCat(path, " does not lie in ", root,
                   ", the directory of this hub's machine that its setting "
                   "`storage.exchange` opens"));
}

struct Taken {
  FileMap files;
  std::vector<std::string> left_out;
};

absl::StatusOr<Taken> TakeFiles(const std::string& directory,
                                const std::string& root) {
  CAIRN_ASSIGN_OR_RETURN(FileMap all, OpenDirectorySources(directory));
  Taken taken;
  for (auto& [name, source] : all) {
    if (name == kReleaseDocumentFile || !CheckReleaseFile(name).ok()) {
      taken.left_out.push_back(name);
      continue;
    }
    std::error_code error;
    const std::string path = fs::canonical(directory + "/" + name, error);
    if (error || !LiesBelow(path, root)) return Outside(path, root);
    taken.files[name] = std::move(source);
  }
  return taken;
}

absl::Status RefuseExisting(const std::string& directory) {
  std::error_code error;
  if (!fs::exists(directory, error)) return absl::OkStatus();
  if (fs::is_directory(directory, error) && fs::is_empty(directory, error)) {
    return absl::OkStatus();
  }
  return absl::AlreadyExistsError(absl::StrCat(
      directory, " exists and is not empty; export into a new directory"));
}

// One file keeps so many cores busy: hashing, which goes from front to back,
// is about as much work as all the rest.
constexpr unsigned kThreadsAFile = 3;

absl::Status ExportOne(const BlobStore& blobs, const ReleaseRecord& record,
                       int index, const std::string& directory, int threads) {
  const v1::File& file = record.release().files(index);
  CAIRN_RETURN_IF_ERROR(CheckRelativePath(file.path()));
  CAIRN_ASSIGN_OR_RETURN(SharedSource source,
                         OpenAssembled(blobs, record.files(index)));
  const fs::path path = fs::path(directory) / file.path();
  CAIRN_RETURN_IF_ERROR(MakeDirectory(path.parent_path()));
  return ExportFile(*source, file.sha256(), path, threads);
}

// Largest first, so that no thread is left with a large one at the end.
std::vector<int> BySize(const v1::Release& release) {
  std::vector<int> order(static_cast<size_t>(release.files_size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return release.files(a).size_bytes() > release.files(b).size_bytes();
  });
  return order;
}

absl::Status ExportAll(const BlobStore& blobs, const ReleaseRecord& record,
                       const std::string& directory) {
  const std::vector<int> order = BySize(record.release());
  std::vector<absl::Status> results(order.size());
  std::atomic<size_t> next = 0;
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  // One more than cores, as one waits for the disk.
  const auto threads = static_cast<int>(std::min(cores + 1, kThreadsAFile));
  auto work = [&] {
    for (size_t i = next++; i < order.size(); i = next++) {
      results[i] = ExportOne(blobs, record, order[i], directory, threads);
    }
  };
  {
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < cores / kThreadsAFile; ++i) {
      others.emplace_back(work);
    }
    work();
  }
  for (const absl::Status& result : results) CAIRN_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

absl::Status SyncDirectories(const std::string& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("open ", directory));
  absl::Cleanup close_it = [fd] { close(fd); };
  // Files are synced already; this is for names, subdirectories' too.
  if (syncfs(fd) == 0) return absl::OkStatus();
  return SystemError(errno, absl::StrCat("sync ", directory));
}

}  // namespace

absl::StatusOr<std::string> LocalExchange::Resolve(
    const std::string& directory) const {
  if (root_.empty()) {
    return absl::FailedPreconditionError(
        "this hub opens no directory of its machine for checkpoints; its "
        "setting `storage.exchange` names one. Leave --on-hub out to send them "
        "over "
        "the network");
  }
  if (!absl::StartsWith(directory, "/")) {
    return absl::InvalidArgumentError(
        absl::StrCat("directory '", directory,
                     "' is not an absolute path on the hub's machine"));
  }
  std::error_code error;
  const std::string root = fs::canonical(root_, error);
  if (error) {
    return SystemError(
        error.value(),
        absl::StrCat("open ", root_, ", the setting storage.exchange"));
  }
  std::string path = fs::weakly_canonical(directory, error);
  if (error)
    return SystemError(error.value(), absl::StrCat("open ", directory));
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (!LiesBelow(path, root)) return Outside(directory, root_);
  return path;
}

absl::StatusOr<v1::ImportModelResponse> LocalExchange::Import(
    const Caller& caller, const v1::ImportModelRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ModelName name,
                         ModelName::From(request.model().model_id()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageModels, name.full()));
  if (request.model().files_size() > 0) {
    return absl::InvalidArgumentError(
        "model.files must be empty: the files are those of `directory`");
  }
  CAIRN_ASSIGN_OR_RETURN(std::string directory, Resolve(request.directory()));
  std::error_code error;
  CAIRN_ASSIGN_OR_RETURN(
      Taken taken, TakeFiles(directory, fs::canonical(root_, error).string()));
  v1::ImportModelResponse response;
  response.mutable_left_out()->Add(taken.left_out.begin(),
                                   taken.left_out.end());
  CAIRN_ASSIGN_OR_RETURN(
      *response.mutable_model(),
      models_.Import(caller, request.model(), request, taken.files));
  return response;
}

absl::StatusOr<v1::ExportReleaseResponse> LocalExchange::Export(
    const Caller& caller, const v1::ExportReleaseRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ReleaseName name,
                         ReleaseName::Parse(request.release()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageModels, ModelOf(request.release())));
  CAIRN_ASSIGN_OR_RETURN(std::string directory, Resolve(request.directory()));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         store_.Read().Get<ReleaseRecord>(name.full()));
  CAIRN_RETURN_IF_ERROR(RefuseExisting(directory));
  const std::string partial =
      absl::StrCat(directory, ".export-", ToHex(RandomBytes(4)));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(partial));
  absl::Cleanup remove = [&partial] {
    std::error_code ignored;
    fs::remove_all(partial, ignored);
  };
  CAIRN_RETURN_IF_ERROR(ExportAll(blobs_, record, partial));
  if (rename(partial.c_str(), directory.c_str()) != 0) {
    return SystemError(errno,
                       absl::StrCat("rename ", partial, " to ", directory));
  }
  std::move(remove).Cancel();
  CAIRN_RETURN_IF_ERROR(SyncDirectories(directory));
  v1::ExportReleaseResponse response;
  response.set_files(record.release().files_size());
  for (const v1::File& file : record.release().files()) {
    response.set_bytes(response.bytes() + file.size_bytes());
  }
  return response;
}

}  // namespace cairn
