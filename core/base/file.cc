#include "core/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

absl::Status WriteAll(int fd, absl::string_view bytes,
                      const std::string& path) {
  while (!bytes.empty()) {
    ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, absl::StrCat("write ", path));
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status SyncDirectoryOf(const std::string& path) {
  std::string parent = std::filesystem::path(path).parent_path().string();
  if (parent.empty()) parent = ".";
  int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("open ", parent));
  absl::Cleanup close_it = [fd] { close(fd); };
  if (fsync(fd) != 0) return SystemError(errno, absl::StrCat("sync ", parent));
  return absl::OkStatus();
}

absl::Status SyncAndRename(int fd, const std::string& from,
                           const std::string& to) {
  if (fsync(fd) != 0) return SystemError(errno, absl::StrCat("sync ", from));
  if (rename(from.c_str(), to.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("rename ", from, " to ", to));
  }
  return SyncDirectoryOf(to);
}

}  // namespace

absl::Status SystemError(int error, absl::string_view doing) {
  const std::string text = absl::StrCat(doing, ": ", strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(text);
    case EEXIST:
      return absl::AlreadyExistsError(text);
    case ENOSPC:
    case EDQUOT:
      return ReasonedError(
          absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
          absl::StrCat(text, "; make room on that disk and repeat it"));
    default:
      return absl::InternalError(text);
  }
}

absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     int64_t bytes_max) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, absl::StrCat("open ", path));
  absl::Cleanup close_it = [fd] { close(fd); };
  std::string out;
  while (true) {
    char buffer[64 << 10];
    ssize_t n = read(fd, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, absl::StrCat("read ", path));
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
    if (static_cast<int64_t>(out.size()) > bytes_max) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
          absl::StrCat(path, " is larger than ", bytes_max, " bytes"),
          {{"file", path}, {"limit", absl::StrCat(bytes_max)}});
    }
  }
}

absl::Status WriteFile(const std::string& path, absl::string_view bytes,
                       int mode) {
  const std::string part =
      absl::StrCat(path, ".", ToHex(RandomBytes(6)), ".part");
  int fd = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", part));
  absl::Cleanup close_it = [fd] { close(fd); };
  absl::Cleanup remove_it = [&part] { unlink(part.c_str()); };
  CAIRN_RETURN_IF_ERROR(WriteAll(fd, bytes, part));
  CAIRN_RETURN_IF_ERROR(SyncAndRename(fd, part, path));
  std::move(remove_it).Cancel();
  return absl::OkStatus();
}

absl::Status WriteAt(int fd, int64_t offset, absl::string_view bytes,
                     absl::string_view path) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd, bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, absl::StrCat("write ", path));
    offset += n;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

FileAppender::FileAppender(std::string path, int fd)
    : path_(std::move(path)), fd_(fd) {}

FileAppender::FileAppender(FileAppender&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

FileAppender::~FileAppender() {
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<FileAppender> FileAppender::Open(const std::string& path,
                                                int64_t keep) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", path));
  FileAppender appender(path, fd);
  if (ftruncate(fd, keep) != 0 || lseek(fd, keep, SEEK_SET) != keep) {
    return SystemError(errno, absl::StrCat("truncate ", path));
  }
  return appender;
}

absl::Status FileAppender::Append(absl::string_view bytes) {
  return WriteAll(fd_, bytes, path_);
}

absl::Status FileAppender::Publish(const std::string& path) && {
  return SyncAndRename(fd_, path_, path);
}

absl::Status MakeDirectory(const std::string& path, int mode) {
  if (mkdir(path.c_str(), static_cast<mode_t>(mode)) == 0) {
    return absl::OkStatus();
  }
  if (errno == ENOENT) {
    const std::string parent = std::filesystem::path(path).parent_path();
    if (!parent.empty() && parent != path) {
      CAIRN_RETURN_IF_ERROR(MakeDirectory(parent, mode));
      return MakeDirectory(path, mode);
    }
  }
  std::error_code ignored;
  if (errno == EEXIST && std::filesystem::is_directory(path, ignored)) {
    return absl::OkStatus();
  }
  return SystemError(errno, absl::StrCat("make directory ", path));
}

}  // namespace cairn
