#include "server/release/file_intake.h"

#include <algorithm>
#include <numeric>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file_hasher.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

int64_t SizeOf(const IntakeFile& file) {
  return file.ends.empty() ? 0 : file.ends.back();
}

// Reads a stored blob, which must have `length` bytes.
absl::Status HashStored(const BlobStore& blobs, const Digest& digest,
                        int64_t length, FileHasher& hasher) {
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs.Open(digest));
  if (source->size() != length) {
    return absl::DataLossError(absl::StrCat("blob ", digest.hex(), " has ",
                                            source->size(), " bytes and not ",
                                            length));
  }
  std::string tile;
  for (int64_t at = 0; at < length;) {
    tile.resize(static_cast<size_t>(std::min(kTileBytes, length - at)));
    CAIRN_RETURN_IF_ERROR(source->ReadAt(at, absl::MakeSpan(tile)));
    hasher.Update(tile);
    at += static_cast<int64_t>(tile.size());
  }
  return absl::OkStatus();
}

}  // namespace

FileIntake::FileIntake(BlobStore& blobs, std::vector<IntakeFile> files)
    : blobs_(blobs), files_(std::move(files)), order_(files_.size()) {
  std::iota(order_.begin(), order_.end(), size_t{0});
  std::stable_sort(order_.begin(), order_.end(), [this](size_t a, size_t b) {
    return SizeOf(files_[a]) > SizeOf(files_[b]);
  });
}

absl::Status FileIntake::Run() {
  {
    // One more than can compute: some wait for the disk.
    const size_t cores = std::max(1U, std::thread::hardware_concurrency());
    std::vector<std::jthread> threads;
    for (size_t i = 0; i < std::min(cores + 1, files_.size()); ++i) {
      threads.emplace_back([this] { TakeFiles(); });
    }
  }
  MutexLock lock(mutex_);
  return failure_;
}

void FileIntake::TakeFiles() {
  for (size_t i = next_++; i < order_.size() && !HasFailed(); i = next_++) {
    IntakeFile& file = files_[order_[i]];
    const absl::Status taken = TakeFile(file);
    if (taken.ok()) continue;
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = Annotate(taken, file.path);
  }
}

absl::Status FileIntake::TakeFile(IntakeFile& file) {
  FileHasher hasher(SizeOf(file));
  file.blobs.resize(file.ends.size());
  int64_t begin = 0;
  for (size_t blob = 0; blob < file.ends.size(); ++blob) {
    if (HasFailed()) return absl::OkStatus();
    const int64_t length = file.ends[blob] - begin;
    if (file.source == nullptr) {
      CAIRN_RETURN_IF_ERROR(
          HashStored(blobs_, file.blobs[blob], length, hasher));
    } else {
      const auto slice = MakeSliceSource(file.source, begin, length);
      CAIRN_ASSIGN_OR_RETURN(file.blobs[blob], blobs_.PutFrom(*slice, &hasher));
    }
    begin = file.ends[blob];
  }
  file.described.set_path(file.path);
  file.described.set_size_bytes(begin);
  file.described.set_sha256(hasher.FinishSha256());
  file.described.set_git_sha1(hasher.FinishGitSha1());
  return absl::OkStatus();
}

bool FileIntake::HasFailed() {
  MutexLock lock(mutex_);
  return !failure_.ok();
}

}  // namespace cairn
