#ifndef CAIRN_STORAGE_FS_POSIX_FILE_H_
#define CAIRN_STORAGE_FS_POSIX_FILE_H_

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// An open file descriptor with its path, closed at the end. Errors name the
// path; those of reading bytes that exist are DATA_LOSS.
class PosixFile {
 public:
  // `flags` as for open(2), O_CLOEXEC added. NOT_FOUND, ALREADY_EXISTS (with
  // O_EXCL), RESOURCE_EXHAUSTED or UNAVAILABLE.
  static absl::StatusOr<PosixFile> Open(const std::string& path, int flags);

  PosixFile(PosixFile&& other) noexcept
      : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  PosixFile& operator=(PosixFile&&) = delete;
  ~PosixFile();

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  absl::StatusOr<int64_t> Size() const;
  absl::StatusOr<timespec> Modified() const;
  // All of `out`, or an error. OUT_OF_RANGE past `size`.
  absl::Status ReadAt(int64_t offset, absl::Span<char> out, int64_t size) const;
  // All of the bytes; on failure the file is as long as it was (`offset`).
  absl::Status WriteAt(int64_t offset, absl::string_view bytes);
  // Cuts the file off.
  absl::Status Truncate(int64_t size);
  // Starts writing a range back to the disk without waiting for it.
  void StartWriteback(int64_t offset, int64_t size);
  // Data and length are durable when this returns.
  absl::Status SyncBytes();
  // Data, length and times are durable when this returns.
  absl::Status SyncAll();
  // Everything written to its file system is durable when this returns.
  absl::Status SyncFileSystem();
  absl::Status SetModifiedNow();
  absl::Status SetModified(timespec time);
  // Makes the file hold the first `size` bytes of another one.
  absl::Status CopyFrom(const PosixFile& from, int64_t size);

 private:
  PosixFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_;
};

// Every write of a blob's bytes passes here, so that tests can have it fail.
absl::Status BeforeWrite();

// Makes names created, renamed or removed in a directory durable.
absl::Status SyncDirectory(const std::string& path);

// The error of a system call on `path` by errno; without space, one with
// reason STORAGE_FULL.
absl::Status FileError(int error, absl::string_view doing,
                       const std::string& path);

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_POSIX_FILE_H_
