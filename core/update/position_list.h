#ifndef CAIRN_CORE_UPDATE_POSITION_LIST_H_
#define CAIRN_CORE_UPDATE_POSITION_LIST_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/mutex.h"
#include "core/codec/position_codec.h"
#include "core/tensor/byte_source.h"
#include "core/update/scratch_file.h"

namespace cairn {

// The coded positions of one tensor's changes: blocks of kPositionBlock, the
// last shorter, each after its length as a varint. Holds 16 bytes a block and
// the file open; the positions stay in it, but for the block last read until
// the tensor's end was: tiles are smaller than what a block spans. Thread-safe.
class PositionList {
 public:
  PositionList() = default;

  // Reads and checks all `count` positions, below `elements`, which take the
  // `bytes` bytes of `file` from `offset` on. `tensor` and `label`, the file,
  // are named in errors: INVALID_ARGUMENT with reason MALFORMED_FILE.
  static absl::StatusOr<PositionList> Open(SharedSource file, int64_t offset,
                                           int64_t bytes, int64_t count,
                                           int64_t elements,
                                           absl::string_view tensor,
                                           absl::string_view label);

  int64_t count() const { return count_; }

  // Calls visit(number of the first one, positions) for those within
  // [first, first + length), ascending, a few thousand at a time.
  using Visit = std::function<absl::Status(int64_t, absl::Span<const int64_t>)>;
  absl::Status ForRange(int64_t first, int64_t length,
                        const Visit& visit) const;

 private:
  struct Block {
    int64_t offset = 0;     // of its coded bytes in the file
    int64_t previous = -1;  // the position before its first
  };

  // Positions of a block, which whoever reads them shares with the memory.
  using Positions = std::shared_ptr<const std::vector<int64_t>>;
  struct Memory {
    Mutex mutex;
    size_t block ABSL_GUARDED_BY(mutex) = 0;
    Positions positions ABSL_GUARDED_BY(mutex);  // null: of none
  };

  absl::StatusOr<Positions> Read(size_t block) const;
  absl::StatusOr<Positions> Decode(size_t block) const;

  std::unique_ptr<Memory> memory_;
  SharedSource file_;
  int64_t count_ = 0;
  int64_t elements_ = 0;
  int64_t end_ = 0;  // of the last block's bytes
  std::vector<Block> blocks_;
};

// Codes the positions of one tensor into a stream. Not thread-safe.
class PositionListWriter {
 public:
  // Of a tensor of `elements`; `out` outlives it.
  PositionListWriter(int64_t elements, ScratchFile& out)
      : elements_(elements), out_(out) {}

  // Ascending positions, in any pieces. INVALID_ARGUMENT otherwise.
  absl::Status Add(absl::Span<const int64_t> positions);
  // Writes the last block.
  absl::Status Flush();
  int64_t count() const { return count_; }

 private:
  const int64_t elements_;
  ScratchFile& out_;
  int64_t count_ = 0;
  int64_t previous_ = -1;         // of all
  int64_t coded_previous_ = -1;   // of those that are coded
  std::vector<int64_t> pending_;  // the block under way
  PositionEncoder encoder_;
  std::string coded_;  // reused
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_POSITION_LIST_H_
