#ifndef CAIRN_CORE_BASE_FILE_H_
#define CAIRN_CORE_BASE_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// The error that errno `error` means for `doing`, e.g. "open /x": NOT_FOUND,
// PERMISSION_DENIED, ALREADY_EXISTS, RESOURCE_EXHAUSTED with reason
// STORAGE_FULL (no space) or INTERNAL, with the system's text.
absl::Status SystemError(int error, absl::string_view doing);

// The whole of a file. INVALID_ARGUMENT with LIMIT_EXCEEDED when it is larger
// than `bytes_max`.
absl::StatusOr<std::string> ReadFile(const std::string& path,
                                     int64_t bytes_max = 64 << 20);

// Replaces a file in one step (write beside it, fsync, rename, fsync of the
// directory), so that readers see the old bytes or the new ones. `mode` is the
// new file's permission bits.
absl::Status WriteFile(const std::string& path, absl::string_view bytes,
                       int mode = 0644);

// Writes larger than this get larger pages, for which the kernel looks longer
// than it takes to fill them.
inline constexpr size_t kWriteBytesMax = 256 << 10;

// Writes all bytes to an open file from `offset` on. `path` is for errors.
absl::Status WriteAt(int fd, int64_t offset, absl::string_view bytes,
                     absl::string_view path);

// A file that is written from front to back. A destructor only closes.
class FileAppender {
 public:
  // Makes the file, or opens it and goes on after its first `keep` bytes.
  static absl::StatusOr<FileAppender> Open(const std::string& path,
                                           int64_t keep = 0);
  FileAppender(FileAppender&& other) noexcept;
  FileAppender& operator=(FileAppender&&) = delete;
  ~FileAppender();

  absl::Status Append(absl::string_view bytes);
  // Makes what was appended durable, then renames the file to `path`.
  absl::Status Publish(const std::string& path) &&;

 private:
  FileAppender(std::string path, int fd);

  std::string path_;
  int fd_;
};

// Makes a directory and its parents durable enough to name files in; OK when
// it is there already.
absl::Status MakeDirectory(const std::string& path, int mode = 0755);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_FILE_H_
