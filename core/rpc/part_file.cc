#include "core/rpc/part_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

// A number of this many digits, so that a shorter one never leaves old ones.
constexpr size_t kHaveDigits = 19;
// Shorter files are not worth another descriptor.
constexpr int64_t kDirectBytesMin = 1 << 20;

// What an earlier attempt noted; without a note, the length of its file.
int64_t ReadHave(int have_fd, int64_t size) {
  std::string text(kHaveDigits, '\0');
  int64_t have = 0;
  const ssize_t n = pread(have_fd, text.data(), text.size(), 0);
  if (n == 0) return size;
  if (n != static_cast<ssize_t>(text.size()) ||
      !absl::SimpleAtoi(text, &have)) {
    return 0;
  }
  return std::clamp<int64_t>(have, 0, size);
}

absl::Status CheckRoom(int fd, int64_t needed, const std::string& path) {
  struct statvfs info;
  if (fstatvfs(fd, &info) != 0) return absl::OkStatus();
  const auto room = static_cast<int64_t>(info.f_bavail * info.f_frsize);
  if (needed <= room) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
      absl::StrCat(path, " needs ", needed, " more bytes, and the disk has ",
                   room, "; make room on it and repeat the command"));
}

}  // namespace

PartFile::PartFile(std::string path)
    : path_(std::move(path)), written_(std::make_unique<WrittenFile>()) {
  written_->name = part();
}

PartFile::PartFile(PartFile&& other) noexcept
    : path_(std::move(other.path_)),
      written_(std::move(other.written_)),
      have_fd_(std::exchange(other.have_fd_, -1)),
      found_(other.found_) {}

PartFile::~PartFile() {
  if (have_fd_ >= 0) close(have_fd_);
  if (written_ != nullptr && written_->fd >= 0) close(written_->fd);
}

absl::StatusOr<PartFile> PartFile::Open(const std::string& path,
                                        int64_t size_bytes) {
  PartFile file(path);
  const std::string part = file.part();
  file.written_->fd = open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file.written_->fd < 0) {
    return SystemError(errno, absl::StrCat("create ", part));
  }
  file.have_fd_ = open(file.have().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  struct stat info;
  if (file.have_fd_ < 0 || fstat(file.written_->fd, &info) != 0) {
    return SystemError(errno, absl::StrCat("create ", file.have()));
  }
  const auto there = static_cast<int64_t>(info.st_size);
  if (there <= size_bytes) file.found_ = ReadHave(file.have_fd_, there);
  CAIRN_RETURN_IF_ERROR(
      CheckRoom(file.written_->fd, size_bytes - file.found_, path));
  // From here on the file may have holes.
  CAIRN_RETURN_IF_ERROR(file.Note(file.found_));
  CAIRN_RETURN_IF_ERROR(SetFileSize(file.written_->fd, size_bytes, part));
  if (size_bytes >= kDirectBytesMin) {
    file.written_->direct_fd = OpenDirect(part);
  }
  return file;
}

absl::Status PartFile::ReadAt(int64_t offset, absl::Span<char> out) const {
  while (!out.empty()) {
    const ssize_t n = pread(written_->fd, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError(errno, absl::StrCat("read ", part()));
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(part(), " ends at ", offset));
    }
    offset += n;
    out.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status PartFile::Note(int64_t have) {
  return cairn::WriteAt(have_fd_, 0, absl::StrFormat("%0*d", kHaveDigits, have),
                        this->have());
}

absl::Status PartFile::Publish() && {
  if (fsync(written_->fd) != 0) {
    return SystemError(errno, absl::StrCat("sync ", part()));
  }
  if (rename(part().c_str(), path_.c_str()) != 0) {
    return SystemError(errno, absl::StrCat("rename to ", path_));
  }
  (void)unlink(have().c_str());
  std::string folder = std::filesystem::path(path_).parent_path().string();
  if (folder.empty()) folder = ".";
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool is_synced = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (!is_synced) return SystemError(error, absl::StrCat("sync ", folder));
  return absl::OkStatus();
}

void PartFile::Discard() {
  (void)unlink(part().c_str());
  (void)unlink(have().c_str());
}

}  // namespace cairn
