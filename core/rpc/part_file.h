#ifndef CAIRN_CORE_RPC_PART_FILE_H_
#define CAIRN_CORE_RPC_PART_FILE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/direct_appender.h"
#include "core/base/direct_write.h"

namespace cairn {

// A file that is being fetched: PATH.part, written in any order, and beside it
// PATH.part.have, which says how many bytes from the front are there. Both are
// hints for the next attempt, worth no sync: the digest decides. Several
// threads may append and read at a time; appenders share no page.
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

  // Writes from `offset` on; not after the file is gone.
  DirectAppender AppendAt(int64_t offset) {
    return DirectAppender(*written_, offset);
  }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const;
  // Notes that so many bytes from the front are there.
  absl::Status Note(int64_t have);

  // Makes all durable and gives the file its name.
  absl::Status Publish() &&;
  // Removes it.
  void Discard();

 private:
  explicit PartFile(std::string path);
  std::string part() const { return path_ + ".part"; }
  std::string have() const { return path_ + ".part.have"; }

  std::string path_;
  std::unique_ptr<WrittenFile> written_;
  int have_fd_ = -1;
  int64_t found_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_PART_FILE_H_
