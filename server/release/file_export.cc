#include "server/release/file_export.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/direct_write.h"
#include "core/base/file.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

// Copies a source to a file on several threads. Each takes the next tile,
// reads (which may be to decode) and writes it; whoever has the tile whose
// turn it is to be hashed hashes it, and those after it that are ready, so
// that no core waits for another one's kind of work.
class HashedCopy {
 public:
  HashedCopy(const ByteSource& source, WrittenFile& file, int threads)
      : source_(source),
        file_(file),
        threads_(threads),
        tiles_((source.size() + kTileBytes - 1) / kTileBytes),
        ring_(2 * static_cast<size_t>(threads)) {}

  absl::StatusOr<Digest> Run() {
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < threads_; ++i) {
        others.emplace_back([this] { Work(); });
      }
      Work();
    }
    MutexLock lock(mutex_);
    CAIRN_RETURN_IF_ERROR(failure_);
    return hasher_.Finish();
  }

 private:
  struct Tile {
    PageBuffer memory;
    size_t size = 0;
    bool is_ready = false;
  };

  Tile& TileOf(int64_t number) {
    return ring_[static_cast<size_t>(number) % ring_.size()];
  }

  void Work() {
    while (true) {
      int64_t mine;
      {
        MutexLock lock(mutex_);
        while (failure_.ok() && taken_ < tiles_ &&
               taken_ - hashed_ >= static_cast<int64_t>(ring_.size())) {
          freed_.Wait(mutex_);
        }
        if (!failure_.ok() || taken_ == tiles_) return;
        mine = taken_++;
      }
      // The slot is this thread's until it says that it is ready.
      absl::Status copied = CopyTile(mine, TileOf(mine));
      MutexLock lock(mutex_);
      if (!copied.ok()) {
        if (failure_.ok()) failure_ = std::move(copied);
        freed_.NotifyAll();
        return;
      }
      TileOf(mine).is_ready = true;
      HashReady();
    }
  }

  absl::Status CopyTile(int64_t number, Tile& tile) const {
    const int64_t at = number * kTileBytes;
    if (tile.memory == nullptr) {
      tile.memory = MakePageBuffer(static_cast<size_t>(kTileBytes));
    }
    tile.size = static_cast<size_t>(std::min(kTileBytes, source_.size() - at));
    CAIRN_RETURN_IF_ERROR(
        source_.ReadAt(at, absl::MakeSpan(tile.memory.get(), tile.size)));
    return WriteDirect(file_, at, {tile.memory.get(), tile.size}, 0, tile.size);
  }

  // Hashes what is ready and whose turn it is, unless somebody is at it.
  void HashReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (is_hashing_) return;
    is_hashing_ = true;
    while (hashed_ < tiles_ && TileOf(hashed_).is_ready) {
      Tile& tile = TileOf(hashed_);
      mutex_.Unlock();
      hasher_.Update({tile.memory.get(), tile.size});
      mutex_.Lock();
      tile.is_ready = false;
      ++hashed_;
      freed_.NotifyAll();
    }
    is_hashing_ = false;
  }

  const ByteSource& source_;
  WrittenFile& file_;
  const int threads_;
  const int64_t tiles_;
  // Tile n is in slot n modulo its size, from when it is taken until it is
  // hashed.
  std::vector<Tile> ring_;
  // Whoever set is_hashing_ uses it.
  Hasher hasher_;
  Mutex mutex_;
  CondVar freed_;
  int64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t hashed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_hashing_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status ExportFile(const ByteSource& source, const std::string& sha256,
                        const std::string& path, int threads) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", path));
  WrittenFile file{.name = path, .fd = fd};
  absl::Cleanup close_it = [fd] { close(fd); };
  // At its full length, as writes that lengthen a file wait for each other.
  if (ftruncate(fd, source.size()) != 0) {
    return SystemError(errno, absl::StrCat("size ", path));
  }
  if (source.size() >= kTileBytes) file.direct_fd = OpenDirect(path);
  HashedCopy copy(source, file, threads);
  CAIRN_ASSIGN_OR_RETURN(Digest found, copy.Run());
  if (found.hex() != sha256) {
    return absl::DataLossError(absl::StrCat(path, ": what is stored hashes to ",
                                            found.hex(), "; the release has ",
                                            sha256));
  }
  if (fsync(fd) != 0) return SystemError(errno, absl::StrCat("sync ", path));
  return absl::OkStatus();
}

}  // namespace cairn
