#include "core/update/scratch_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr size_t kBufferBytes = 1 << 18;

}  // namespace

absl::StatusOr<std::unique_ptr<ScratchFile>> ScratchFile::Create(
    const std::string& path) {
  const int fd =
      open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return SystemError(errno, absl::StrCat("create ", path));
  unlink(path.c_str());
  return std::unique_ptr<ScratchFile>(new ScratchFile(path, fd));
}

ScratchFile::ScratchFile(std::string path, int fd)
    : path_(std::move(path)), fd_(fd) {}

ScratchFile::~ScratchFile() { close(fd_); }

absl::Status ScratchFile::Append(absl::string_view bytes) {
  buffer_.append(bytes.data(), bytes.size());
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status ScratchFile::MoveTo(ScratchFile& other) {
  CAIRN_RETURN_IF_ERROR(ForEachPart([&](int64_t, absl::Span<const char> part) {
    return other.Append({part.data(), part.size()});
  }));
  CAIRN_RETURN_IF_ERROR(other.Append(buffer_));
  buffer_.clear();
  if (flushed_ > 0 &&
      (ftruncate(fd_, 0) != 0 || lseek(fd_, 0, SEEK_SET) != 0)) {
    return SystemError(errno, absl::StrCat("empty ", path_));
  }
  flushed_ = 0;
  return absl::OkStatus();
}

absl::Status ScratchFile::CopyTo(SafetensorsWriter& writer,
                                 absl::string_view tensor) {
  CAIRN_RETURN_IF_ERROR(Flush());
  return ForEachPart([&](int64_t offset, absl::Span<const char> part) {
    return writer.Write(tensor, offset, part);
  });
}

absl::Status ScratchFile::ForEachPart(
    absl::FunctionRef<absl::Status(int64_t, absl::Span<const char>)> visit) {
  if (flushed_ == 0) return absl::OkStatus();
  std::string part(kBufferBytes, '\0');
  for (int64_t offset = 0; offset < flushed_;) {
    const ssize_t got = pread(fd_, &part[0], part.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return SystemError(errno, absl::StrCat("read ", path_));
    CAIRN_RETURN_IF_ERROR(visit(offset, absl::MakeConstSpan(part).subspan(
                                            0, static_cast<size_t>(got))));
    offset += got;
  }
  return absl::OkStatus();
}

absl::Status ScratchFile::Flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t wrote =
        write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return SystemError(errno, absl::StrCat("write ", path_));
    done += static_cast<size_t>(wrote);
  }
  flushed_ += static_cast<int64_t>(done);
  buffer_.clear();
  return absl::OkStatus();
}

}  // namespace cairn
