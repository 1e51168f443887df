#include "storage/fs/posix_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/base/failpoint.h"
#include "core/base/file.h"
#include "core/base/gather_write.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;

}  // namespace

absl::Status FileError(int error, absl::string_view doing,
                       const std::string& path) {
  absl::Status status = SystemError(error, absl::StrCat(doing, " ", path));
  if (!absl::IsInternal(status)) return status;
  return absl::UnavailableError(status.message());
}

absl::Status BeforeWrite() { return Failpoint("file.write"); }

absl::StatusOr<PosixFile> PosixFile::Open(const std::string& path, int flags) {
  if ((flags & O_CREAT) != 0) CAIRN_RETURN_IF_ERROR(Failpoint("file.open"));
  int fd = open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, "open", path);
  return PosixFile(path, fd);
}

PosixFile::~PosixFile() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<int64_t> PosixFile::Size() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return FileError(errno, "stat", path_);
  return static_cast<int64_t>(info.st_size);
}

absl::StatusOr<timespec> PosixFile::Modified() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return FileError(errno, "stat", path_);
  return info.st_mtim;
}

absl::Status PosixFile::CopyFrom(const PosixFile& from, int64_t size) {
  off_t offset = 0;
  while (offset < size) {
    const auto left = static_cast<size_t>(size - offset);
    const ssize_t n = copy_file_range(from.fd_, &offset, fd_, nullptr, left, 0);
    if (n > 0 || (n < 0 && errno == EINTR)) continue;
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(
          from.path_, " ends at ", offset, "; it was ", size, " bytes long"));
    }
    if (errno != EXDEV && errno != EINVAL && errno != ENOSYS &&
        errno != EOPNOTSUPP) {
      return FileError(errno, absl::StrCat("copy ", from.path_, " to"), path_);
    }
    std::string buffer(static_cast<size_t>(std::min(size - offset, kTileBytes)),
                       '\0');
    CAIRN_RETURN_IF_ERROR(from.ReadAt(offset, absl::MakeSpan(buffer), size));
    CAIRN_RETURN_IF_ERROR(WriteAt(offset, buffer));
    offset += static_cast<off_t>(buffer.size());
  }
  return absl::OkStatus();
}

absl::Status PosixFile::ReadAt(int64_t offset, absl::Span<char> out,
                               int64_t size) const {
  if (offset < 0 || offset > size ||
      static_cast<int64_t>(out.size()) > size - offset) {
    return absl::OutOfRangeError(
        absl::StrCat("read of ", out.size(), " bytes at ", offset, " of ",
                     path_, " passes its end at ", size));
  }
  while (!out.empty()) {
    ssize_t n = pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return absl::DataLossError(absl::StrCat(
          path_, " cannot be read at ", offset, ": ",
          n == 0 ? "it is shorter than it was" : std::strerror(errno)));
    }
    offset += n;
    out.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status PosixFile::WriteAt(int64_t offset, absl::string_view bytes) {
  CAIRN_RETURN_IF_ERROR(BeforeWrite());
  const int error = GatherWriteAt(fd_, offset, {&bytes, 1});
  if (error == 0) return absl::OkStatus();
  absl::Status status = FileError(error, "write", path_);
  if (ftruncate(fd_, offset) == 0) return status;
  return absl::UnavailableError(
      absl::StrCat(status.message(), "; nor can it be cut back to ", offset));
}

absl::Status PosixFile::Truncate(int64_t size) {
  if (ftruncate(fd_, size) == 0) return absl::OkStatus();
  return FileError(errno, absl::StrCat("cut back to ", size, ":"), path_);
}

void PosixFile::StartWriteback(int64_t offset, int64_t size) {
  // Advice only: SyncBytes() reports what goes wrong.
  (void)sync_file_range(fd_, offset, size, SYNC_FILE_RANGE_WRITE);
}

absl::Status PosixFile::SyncBytes() {
  CAIRN_RETURN_IF_ERROR(Failpoint("file.sync"));
  if (fdatasync(fd_) != 0) return FileError(errno, "sync", path_);
  return absl::OkStatus();
}

absl::Status PosixFile::SyncAll() {
  CAIRN_RETURN_IF_ERROR(Failpoint("file.sync_all"));
  if (fsync(fd_) != 0) return FileError(errno, "sync", path_);
  return absl::OkStatus();
}

absl::Status PosixFile::SyncFileSystem() {
  if (syncfs(fd_) != 0) return FileError(errno, "sync file system of", path_);
  return absl::OkStatus();
}

absl::Status PosixFile::SetModifiedNow() {
  return SetModified({.tv_sec = 0, .tv_nsec = UTIME_NOW});
}

absl::Status PosixFile::SetModified(timespec time) {
  const timespec times[2] = {{.tv_sec = 0, .tv_nsec = UTIME_OMIT}, time};
  if (futimens(fd_, times) != 0) return FileError(errno, "touch", path_);
  return absl::OkStatus();
}

absl::Status SyncDirectory(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(PosixFile directory,
                         PosixFile::Open(path, O_RDONLY | O_DIRECTORY));
  return directory.SyncAll();
}

}  // namespace cairn
