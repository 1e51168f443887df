#include "server/release/file_export.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <semaphore>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Larger writes get larger pages, which the kernel fills several times slower.
constexpr int64_t kTileBytes = 1 << 20;

absl::Status WriteAll(int fd, int64_t offset, absl::string_view bytes,
                      const std::string& path) {
  const auto length = static_cast<off_t>(bytes.size());
  for (int64_t at = offset; !bytes.empty();) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, absl::StrCat("write ", path));
    at += n;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  // Advice: the disk begins now and not at the sync.
  (void)sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
  return absl::OkStatus();
}

// Two tiles that one thread fills and another one hashes, in turn.
class HashedTiles {
 public:
  // The next tile to fill; the hasher is done with it.
  std::string& Next() {
    free_.acquire();
    return tiles_[filled_++ % tiles_.size()];
  }
  // The tile that Next() returned is filled; an empty one is the last.
  void Filled() { full_.release(); }
  // Hashes tiles up to the last.
  Digest HashAll() {
    Hasher hasher;
    for (size_t i = 0;; ++i) {
      full_.acquire();
      const std::string& tile = tiles_[i % tiles_.size()];
      if (tile.empty()) return hasher.Finish();
      hasher.Update(tile);
      free_.release();
    }
  }

 private:
  std::array<std::string, 2> tiles_;
  size_t filled_ = 0;
  std::counting_semaphore<2> free_{2};
  std::counting_semaphore<3> full_{0};
};

absl::Status CopyAll(const ByteSource& source, HashedTiles& tiles, int fd,
                     const std::string& path) {
  for (int64_t at = 0; at < source.size();) {
    std::string& tile = tiles.Next();
    tile.resize(static_cast<size_t>(std::min(kTileBytes, source.size() - at)));
    absl::Status read = source.ReadAt(at, absl::MakeSpan(tile));
    tiles.Filled();
    CAIRN_RETURN_IF_ERROR(read);
    // The hasher only reads it, too.
    CAIRN_RETURN_IF_ERROR(WriteAll(fd, at, tile, path));
    at += static_cast<int64_t>(tile.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExportFile(const ByteSource& source, const std::string& sha256,
                        const std::string& path) {
  const int fd =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", path));
  absl::Cleanup close_it = [fd] { close(fd); };
  HashedTiles tiles;
  Digest found;
  absl::Status copied;
  {
    std::jthread hasher([&] { found = tiles.HashAll(); });
    copied = CopyAll(source, tiles, fd, path);
    tiles.Next().clear();
    tiles.Filled();
  }
  CAIRN_RETURN_IF_ERROR(copied);
  if (found.hex() != sha256) {
    return absl::DataLossError(absl::StrCat(path, ": what is stored hashes to ",
                                            found.hex(), "; the release has ",
                                            sha256));
  }
  if (fsync(fd) != 0) return SystemError(errno, absl::StrCat("sync ", path));
  return absl::OkStatus();
}

}  // namespace cairn
