#include "core/base/direct_write.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/gather_write.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

absl::Status WriteCached(const WrittenFile& file, int64_t offset,
                         absl::string_view bytes) {
  const int error = GatherWriteAt(file.fd, offset, {&bytes, 1});
  if (error != 0) return SystemError(error, absl::StrCat("write ", file.name));
  // Hands it to the disk while what follows is made.
  (void)sync_file_range(file.fd, offset, static_cast<off_t>(bytes.size()),
                        SYNC_FILE_RANGE_WRITE);
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
    if (static_cast<size_t>(n) % kDirectPage != 0) return false;
    offset += n;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

WrittenFile::~WrittenFile() {
  if (direct_fd >= 0) close(direct_fd);
}

int OpenDirect(const std::string& path) {
  return open(path.c_str(), O_WRONLY | O_DIRECT | O_CLOEXEC);
}

absl::Status SetFileSize(int fd, int64_t bytes, const std::string& path) {
  if (ftruncate(fd, bytes) != 0) {
    return SystemError(errno, absl::StrCat("size ", path));
  }
  if (fallocate(fd, 0, 0, bytes) != 0 && errno == ENOSPC) {
    return SystemError(ENOSPC, absl::StrCat("make room for ", path));
  }
  return absl::OkStatus();
}

void FreePages::operator()(char* memory) const { std::free(memory); }

PageBuffer MakePageBuffer(size_t bytes) {
  CAIRN_CHECK(bytes % kDirectPage == 0);
  auto* memory = static_cast<char*>(std::aligned_alloc(kDirectPage, bytes));
  CAIRN_CHECK(memory != nullptr);
  return PageBuffer(memory);
}

absl::Status WriteDirect(WrittenFile& file, int64_t offset,
                         absl::string_view buffer, size_t begin, size_t end) {
  const auto cached = [&](size_t from, size_t to) {
    return from == to ? absl::OkStatus()
                      : WriteCached(file, offset + static_cast<int64_t>(from),
                                    buffer.substr(from, to - from));
  };
  const size_t first = (begin + kDirectPage - 1) / kDirectPage * kDirectPage;
  const size_t last = end / kDirectPage * kDirectPage;
  if (file.direct_fd < 0 || !file.is_direct.load() || first >= last) {
    return cached(begin, end);
  }
  CAIRN_RETURN_IF_ERROR(cached(begin, first));
  CAIRN_ASSIGN_OR_RETURN(const bool is_written,
                         WritePages(file, offset + static_cast<int64_t>(first),
                                    buffer.substr(first, last - first)));
  return cached(is_written ? last : first, end);
}

}  // namespace cairn
