#include "core/tensor/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

absl::Status CheckRange(int64_t offset, size_t length, int64_t size) {
  if (offset < 0 || offset > size ||
      static_cast<uint64_t>(size - offset) < length) {
    return absl::OutOfRangeError(absl::StrCat("bytes ", offset, " + ", length,
                                              " lie past the end at ", size));
  }
  return absl::OkStatus();
}

class FileSource : public ByteSource {
 public:
  FileSource(std::string path, int fd, int64_t size)
      : path_(std::move(path)), fd_(fd), size_(size) {}
  ~FileSource() override { close(fd_); }
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  int64_t size() const override { return size_; }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(CheckRange(offset, out.size(), size_));
    size_t done = 0;
    while (done < out.size()) {
      ssize_t got = pread(fd_, out.data() + done, out.size() - done,
                          offset + static_cast<off_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::DataLossError(
            absl::StrCat("cannot read ", path_, ": ", std::strerror(errno)));
      }
      if (got == 0) {
        return absl::DataLossError(absl::StrCat(
            path_, " ends at byte ", offset + static_cast<int64_t>(done),
            "; it had ", size_, " when it was opened"));
      }
      done += static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  const std::string path_;
  const int fd_;
  const int64_t size_;
};

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(std::string bytes) : bytes_(std::move(bytes)) {}

  int64_t size() const override { return static_cast<int64_t>(bytes_.size()); }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(CheckRange(offset, out.size(), size()));
    if (!out.empty()) {
      std::memcpy(out.data(), bytes_.data() + offset, out.size());
    }
    return absl::OkStatus();
  }

 private:
  const std::string bytes_;
};

class SliceSource : public ByteSource {
 public:
  SliceSource(SharedSource source, int64_t offset, int64_t size)
      : source_(std::move(source)), offset_(offset), size_(size) {}

  int64_t size() const override { return size_; }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(CheckRange(offset, out.size(), size_));
    return source_->ReadAt(offset_ + offset, out);
  }

 private:
  const SharedSource source_;
  const int64_t offset_;
  const int64_t size_;
};

class ConcatSource : public ByteSource {
 public:
  explicit ConcatSource(std::vector<SharedSource> parts)
      : parts_(std::move(parts)) {
    int64_t end = 0;
    for (const SharedSource& part : parts_)
      ends_.push_back(end += part->size());
  }

  int64_t size() const override { return ends_.empty() ? 0 : ends_.back(); }

  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    CAIRN_RETURN_IF_ERROR(CheckRange(offset, out.size(), size()));
    auto at = static_cast<size_t>(
        std::upper_bound(ends_.begin(), ends_.end(), offset) - ends_.begin());
    for (; !out.empty(); ++at) {
      int64_t begin = ends_[at] - parts_[at]->size();
      size_t length =
          std::min(out.size(), static_cast<size_t>(ends_[at] - offset));
      CAIRN_RETURN_IF_ERROR(
          parts_[at]->ReadAt(offset - begin, out.subspan(0, length)));
      out.remove_prefix(length);
      offset += static_cast<int64_t>(length);
    }
    return absl::OkStatus();
  }

 private:
  const std::vector<SharedSource> parts_;
  std::vector<int64_t> ends_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenFileSource(
    const std::string& path) {
  int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    std::string why =
        absl::StrCat("cannot open ", path, ": ", std::strerror(errno));
    if (errno == ENOENT || errno == ENOTDIR) return absl::NotFoundError(why);
    if (errno == EACCES) return absl::PermissionDeniedError(why);
    return absl::DataLossError(why);
  }
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::NotFoundError(absl::StrCat(path, " is not a file"));
  }
  return std::make_unique<FileSource>(path, fd,
                                      static_cast<int64_t>(info.st_size));
}

std::unique_ptr<ByteSource> MakeMemorySource(std::string bytes) {
  return std::make_unique<MemorySource>(std::move(bytes));
}

std::unique_ptr<ByteSource> MakeSliceSource(SharedSource source, int64_t offset,
                                            int64_t size) {
  CAIRN_CHECK(offset >= 0 && size >= 0 && size <= source->size() &&
              offset <= source->size() - size);
  return std::make_unique<SliceSource>(std::move(source), offset, size);
}

std::unique_ptr<ByteSource> MakeConcatSource(std::vector<SharedSource> parts) {
  return std::make_unique<ConcatSource>(std::move(parts));
}

absl::StatusOr<FileMap> OpenDirectorySources(const std::string& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error), end;
  if (error) {
    return absl::NotFoundError(absl::StrCat("cannot read directory ", directory,
                                            ": ", error.message()));
  }
  FileMap files;
  for (; !error && entry != end; entry.increment(error)) {
    if (!entry->is_regular_file(error)) continue;
    CAIRN_ASSIGN_OR_RETURN(files[entry->path().filename().string()],
                           OpenFileSource(entry->path().string()));
  }
  if (error) {
    return absl::DataLossError(absl::StrCat("cannot read directory ", directory,
                                            ": ", error.message()));
  }
  return files;
}

absl::StatusOr<std::string> ReadAll(const ByteSource& source,
                                    int64_t size_max) {
  if (source.size() > size_max) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat("has ", source.size(), " bytes; at most ",
                                      size_max, " are allowed"));
  }
  std::string out(static_cast<size_t>(source.size()), '\0');
  CAIRN_RETURN_IF_ERROR(source.ReadAt(0, absl::MakeSpan(&out[0], out.size())));
  return out;
}

}  // namespace cairn
