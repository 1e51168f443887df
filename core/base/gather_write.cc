#include "core/base/gather_write.h"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/base/file.h"

namespace cairn {
namespace {

constexpr size_t kPiecesMax = 64;

// What one call writes: as many pieces, and of the last one as much, as fit.
class Batch {
 public:
  Batch(absl::Span<const absl::string_view> pieces, size_t skipped) {
    size_t room = kWriteBytesMax;
    for (absl::string_view piece : pieces) {
      if (count_ == kPiecesMax || room == 0) break;
      piece.remove_prefix(skipped);
      skipped = 0;
      const size_t size = std::min(room, piece.size());
      vectors_[count_++] = {.iov_base = const_cast<char*>(piece.data()),
                            .iov_len = size};
      room -= size;
    }
  }
  const iovec* data() const { return vectors_.data(); }
  int count() const { return static_cast<int>(count_); }

 private:
  std::array<iovec, kPiecesMax> vectors_;
  size_t count_ = 0;
};

}  // namespace

int GatherWriteAt(int fd, int64_t offset,
                  absl::Span<const absl::string_view> pieces) {
  size_t skipped = 0;  // of the first piece
  while (true) {
    while (!pieces.empty() && skipped == pieces.front().size()) {
      pieces.remove_prefix(1);
      skipped = 0;
    }
    if (pieces.empty()) return 0;
    const Batch batch(pieces, skipped);
    const ssize_t n = pwritev(fd, batch.data(), batch.count(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno;
    offset += n;
    for (auto left = static_cast<size_t>(n); left > 0;) {
      const size_t step = std::min(left, pieces.front().size() - skipped);
      skipped += step;
      left -= step;
      if (skipped < pieces.front().size()) continue;
      pieces.remove_prefix(1);
      skipped = 0;
    }
  }
}

}  // namespace cairn
