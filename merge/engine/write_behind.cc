#include "merge/engine/write_behind.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Two keep a disk busy while one of them is between two buffers.
constexpr int kThreads = 2;

char* MapMemory(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CAIRN_CHECK(memory != MAP_FAILED);
  return static_cast<char*>(memory);
}

absl::Status WriteCached(const WrittenFile& file, int64_t offset,
                         absl::string_view bytes) {
  const auto size = static_cast<int64_t>(bytes.size());
  for (size_t at = 0; at < bytes.size(); at += kWriteBytesMax) {
    CAIRN_RETURN_IF_ERROR(WriteAt(file.fd, offset + static_cast<int64_t>(at),
                                  bytes.substr(at, kWriteBytesMax),
                                  file.name));
  }
  // Hands it to the disk while the rest is computed.
  (void)sync_file_range(file.fd, offset, size, SYNC_FILE_RANGE_WRITE);
  return absl::OkStatus();
}

// Writes whole pages; false where that has to be done otherwise.
absl::StatusOr<bool> WritePages(WrittenFile& file, int64_t offset,
                                absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        pwrite(file.direct_fd, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) {
      file.is_direct.store(false);
      return false;
    }
    if (n < 0) return SystemError(errno, absl::StrCat("write ", file.name));
    // The disk is full, or about to say so.
    if (static_cast<size_t>(n) % WriteBehind::kPage != 0) return false;
    offset += n;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

absl::Status WriteRange(WrittenFile& file, int64_t offset,
                        absl::string_view buffer, size_t begin, size_t end) {
  constexpr size_t kPage = WriteBehind::kPage;
  const auto cached = [&](size_t from, size_t to) {
    return from == to ? absl::OkStatus()
                      : WriteCached(file, offset + static_cast<int64_t>(from),
                                    buffer.substr(from, to - from));
  };
  const size_t first = (begin + kPage - 1) / kPage * kPage;
  const size_t last = end / kPage * kPage;
  if (file.direct_fd < 0 || !file.is_direct.load() || first >= last) {
    return cached(begin, end);
  }
  CAIRN_ASSIGN_OR_RETURN(
      const bool is_written,
      WritePages(file, offset + static_cast<int64_t>(first),
                 buffer.substr(first, last - first)));
  if (!is_written) return cached(begin, end);
  CAIRN_RETURN_IF_ERROR(cached(begin, first));
  return cached(last, end);
}

}  // namespace

void WriteBehind::Unmap::operator()(char* memory) const {
  munmap(memory, bytes);
}

WriteBehind::WriteBehind(int buffers, size_t buffer_bytes)
    : buffer_bytes_(buffer_bytes),
      buffers_(static_cast<size_t>(buffers)),
      memory_(MapMemory(buffers_ * buffer_bytes),
              Unmap{buffers_ * buffer_bytes}),
      threads_({.threads = kThreads, .queue_max = buffers_}) {
  CAIRN_CHECK(buffer_bytes % kPage == 0);
  MutexLock lock(mutex_);
  // Those that were used last are taken first, so that few are used at all.
  for (size_t i = buffers_; i-- > 0;) {
    free_.push_back(memory_.get() + i * buffer_bytes);
  }
}

char* WriteBehind::Take() {
  MutexLock lock(mutex_);
  while (free_.empty()) freed_.Wait(mutex_);
  char* buffer = free_.back();
  free_.pop_back();
  return buffer;
}

void WriteBehind::GiveBack(char* buffer) {
  {
    MutexLock lock(mutex_);
    free_.push_back(buffer);
  }
  freed_.NotifyAll();
}

void WriteBehind::Write(WrittenFile& file, int64_t offset, char* buffer,
                        size_t begin, size_t end) {
  const bool is_queued =
      threads_.Submit([this, &file, offset, buffer, begin, end] {
        absl::Status status = WriteRange(
            file, offset, absl::string_view(buffer, end), begin, end);
        if (!status.ok()) {
          MutexLock lock(mutex_);
          if (status_.ok()) status_ = std::move(status);
        }
        GiveBack(buffer);
      });
  CAIRN_CHECK(is_queued);  // as many fit as there are buffers
}

absl::Status WriteBehind::status() {
  MutexLock lock(mutex_);
  return status_;
}

absl::Status WriteBehind::Wait() {
  MutexLock lock(mutex_);
  while (free_.size() < buffers_) freed_.Wait(mutex_);
  return status_;
}

}  // namespace cairn
