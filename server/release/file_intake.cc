#include "server/release/file_intake.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

size_t Cores() { return std::max(1U, std::thread::hardware_concurrency()); }

int64_t BeginOf(const IntakeFile& file, size_t blob) {
  return blob == 0 ? 0 : file.ends[blob - 1];
}

}  // namespace

FileIntake::FileIntake(BlobStore& blobs, std::vector<IntakeFile> files)
    : blobs_(blobs), files_(std::move(files)), stored_(files_.size()) {
  for (size_t i = 0; i < files_.size(); ++i) {
    IntakeFile& file = files_[i];
    const bool is_stored = file.source == nullptr;
    stored_[i].assign(file.ends.size(), is_stored);
    file.blobs.resize(file.ends.size());
    for (size_t blob = 0; !is_stored && blob < file.ends.size(); ++blob) {
      store_tasks_.push_back({i, blob});
    }
    hash_tasks_.push_back({i, Hasher::Kind::kSha256});
    hash_tasks_.push_back({i, Hasher::Kind::kSha1});
  }
}

absl::Status FileIntake::Run() {
  {
    // One more than can compute: some wait for the disk.
    const size_t storing = std::min(Cores() + 1, store_tasks_.size());
    const size_t hashing =
        std::min(std::max<size_t>(Cores(), 2), hash_tasks_.size());
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < storing; ++i) {
      threads.emplace_back([this] { StoreBlobs(); });
    }
    for (size_t i = 0; i < hashing; ++i) {
      threads.emplace_back([this] { HashFiles(); });
    }
  }
  MutexLock lock(mutex_);
  return failure_;
}

void FileIntake::StoreBlobs() {
  for (size_t i = next_store_++; i < store_tasks_.size(); i = next_store_++) {
    if (HasFailed()) return;
    absl::Status stored = StoreBlob(store_tasks_[i]);
    if (!stored.ok()) {
      return Fail(Annotate(stored, files_[store_tasks_[i].file].path));
    }
  }
}

absl::Status FileIntake::StoreBlob(const StoreTask& task) {
  IntakeFile& file = files_[task.file];
  const int64_t begin = BeginOf(file, task.blob);
  auto slice =
      MakeSliceSource(file.source, begin, file.ends[task.blob] - begin);
  CAIRN_ASSIGN_OR_RETURN(Digest digest, blobs_.PutFrom(*slice));
  MutexLock lock(mutex_);
  file.blobs[task.blob] = digest;
  stored_[task.file][task.blob] = true;
  changed_.NotifyAll();
  return absl::OkStatus();
}

void FileIntake::HashFiles() {
  for (size_t i = next_hash_++; i < hash_tasks_.size(); i = next_hash_++) {
    absl::Status hashed = HashFile(hash_tasks_[i]);
    if (!hashed.ok()) {
      return Fail(Annotate(hashed, files_[hash_tasks_[i].file].path));
    }
  }
}

absl::Status FileIntake::HashFile(const HashTask& task) {
  IntakeFile& file = files_[task.file];
  const int64_t size = file.ends.empty() ? 0 : file.ends.back();
  const bool is_git = task.kind == Hasher::Kind::kSha1;
  Hasher hasher = is_git ? GitBlobHasher(size) : Hasher();
  std::string tile;
  for (size_t blob = 0; blob < file.ends.size(); ++blob) {
    if (!AwaitBlob(task.file, blob)) return absl::OkStatus();
    const int64_t length = file.ends[blob] - BeginOf(file, blob);
    CAIRN_ASSIGN_OR_RETURN(auto source, blobs_.Open(file.blobs[blob]));
    if (source->size() != length) {
      return absl::DataLossError(absl::StrCat("blob ", file.blobs[blob].hex(),
                                              " has ", source->size(),
                                              " bytes and not ", length));
    }
    for (int64_t at = 0; at < length;) {
      tile.resize(static_cast<size_t>(std::min(kTileBytes, length - at)));
      CAIRN_RETURN_IF_ERROR(source->ReadAt(at, absl::MakeSpan(tile)));
      hasher.Update(tile);
      at += static_cast<int64_t>(tile.size());
    }
  }
  const std::string hex = hasher.FinishHex();
  // The other digest of the file is another thread's.
  MutexLock lock(mutex_);
  file.described.set_path(file.path);
  file.described.set_size_bytes(size);
  if (is_git) {
    file.described.set_git_sha1(hex);
  } else {
    file.described.set_sha256(hex);
  }
  return absl::OkStatus();
}

bool FileIntake::AwaitBlob(size_t file, size_t blob) {
  MutexLock lock(mutex_);
  while (failure_.ok() && !stored_[file][blob]) changed_.Wait(mutex_);
  return failure_.ok();
}

void FileIntake::Fail(const absl::Status& status) {
  MutexLock lock(mutex_);
  if (failure_.ok()) failure_ = status;
  changed_.NotifyAll();
}

bool FileIntake::HasFailed() {
  MutexLock lock(mutex_);
  return !failure_.ok();
}

}  // namespace cairn
