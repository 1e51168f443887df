#ifndef CAIRN_CORE_RPC_PART_FILE_H_
#define CAIRN_CORE_RPC_PART_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// A file that is being fetched: PATH.part, written in any order, and beside it
// PATH.part.have, which says how many bytes from the front are there. Both are
// hints for the next attempt, worth no sync: the digest decides. WriteAt() and
// ReadAt() may be called by several threads for different ranges.
class PartFile {
 public:
  // Opens what an earlier attempt left of a file of `size_bytes`, or makes it.
  // RESOURCE_EXHAUSTED when there is no room for the rest.
  static absl::StatusOr<PartFile> Open(const std::string& path,
                                       int64_t size_bytes);
  PartFile(PartFile&& other) noexcept;
  PartFile& operator=(PartFile&&) = delete;
  ~PartFile();

  // Bytes from the front that were there when it was opened.
  int64_t found() const { return found_; }

  // The bytes come in pieces, one after the other.
  absl::Status WriteAt(int64_t offset,
                       absl::Span<const absl::string_view> pieces);
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const;
  // Sets the disk to work on a range without waiting.
  void StartWriteback(int64_t offset, int64_t size);
  // Notes that so many bytes from the front are there.
  absl::Status Note(int64_t have);

  // Makes all durable and gives the file its name.
  absl::Status Publish() &&;
  // Removes it.
  void Discard();

 private:
  PartFile(std::string path, int fd, int have_fd, int64_t found);
  std::string part() const { return path_ + ".part"; }
  std::string have() const { return path_ + ".part.have"; }

  std::string path_;
  int fd_;
  int have_fd_;
  int64_t found_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_PART_FILE_H_
