#ifndef CAIRN_CORE_BASE_DIRECT_WRITE_H_
#define CAIRN_CORE_BASE_DIRECT_WRITE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace cairn {

// What offsets of files and buffers are multiples of where pages go past the
// page cache.
inline constexpr size_t kDirectPage = 4096;

// A file that is written at many places.
struct WrittenFile {
  ~WrittenFile();

  std::string name;  // for errors
  int fd = -1;       // another's to close
  // Its own, opened with O_DIRECT; -1 where the file system has no such thing.
  int direct_fd = -1;
  // Cleared when it turns out that the file system wants other alignments.
  std::atomic<bool> is_direct = true;
};

// Opens the file at `path` once more, for writing whole pages; -1 where the
// file system has no such thing.
int OpenDirect(const std::string& path);

// Makes an open file as long as it will be, in few pieces on the disk where the
// file system can: then that there is no room is known before anything is
// written. Errors are those of WriteDirect(), and name `path`.
absl::Status SetFileSize(int fd, int64_t bytes, const std::string& path);

// Memory of whole pages, aligned to pages.
struct FreePages {
  void operator()(char* memory) const;
};
using PageBuffer = std::unique_ptr<char[], FreePages>;
// `bytes` is a multiple of kDirectPage.
PageBuffer MakePageBuffer(size_t bytes);

// Writes bytes [begin, end) of `buffer`, memory of a PageBuffer, to where byte
// 0 of it is at `offset` of the file, a multiple of kDirectPage. Whole pages go
// past the page cache, as copying into fresh pages takes more of a processor
// than hashing does; what is left at both ends goes through it, and so does all
// where the file system wants that. In the order of the file, but a machine
// that stops may have kept pages and lost what was left before them.
// RESOURCE_EXHAUSTED with reason STORAGE_FULL or INTERNAL; some may be written
// then.
absl::Status WriteDirect(WrittenFile& file, int64_t offset,
                         absl::string_view buffer, size_t begin, size_t end);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_DIRECT_WRITE_H_
