#ifndef CAIRN_CORE_BASE_DIRECT_APPENDER_H_
#define CAIRN_CORE_BASE_DIRECT_APPENDER_H_

#include <cstddef>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/direct_write.h"

namespace cairn {

// Bytes of a file in memory: [begin, end) of `memory`, of which the first one
// is at `offset` of the file. What is before them in `memory` precedes them in
// the file, from a page's begin on.
struct FileBytes {
  PageBuffer memory;
  size_t begin = 0;
  size_t end = 0;
  int64_t offset = 0;

  absl::string_view view() const { return {memory.get() + begin, end - begin}; }
  // Writes the pages that they lie in, as WriteDirect() does.
  absl::Status WriteTo(WrittenFile& file) const {
    return WriteDirect(file, offset - static_cast<int64_t>(begin),
                       absl::string_view(memory.get(), end), 0, end);
  }
};

// Appends to a part of a file, gathering what comes into whole pages that go
// past the page cache. Memory: one buffer of about the size of what is
// appended, of which less than 64 KiB wait between calls; none after Flush().
// One thread at a time.
class DirectAppender {
 public:
  // The largest buffer.
  static constexpr size_t kBufferBytes = 512 << 10;
  // Writes what it is given, in that order; not later than what comes after a
  // Flush().
  using Sink = std::function<void(FileBytes)>;

  // Appends from `offset` on to a file that is as long at least, and can be
  // read; `file` must outlive it. Without a sink it writes by itself.
  DirectAppender(WrittenFile& file, int64_t offset, Sink sink = nullptr);

  // Takes all of the pieces, or none: on failure it is as if the call had not
  // been, except that some bytes past end() may be in the file.
  absl::Status Append(absl::Span<const absl::string_view> pieces);
  // Writes, or gives to the sink, what was appended and was not yet.
  absl::Status Flush();

  // Where the next byte goes.
  int64_t end() const { return base_ + static_cast<int64_t>(end_); }
  // Up to where what was appended was written, or given to the sink.
  int64_t written() const { return base_ + static_cast<int64_t>(begin_); }
  // Copies what was appended from `offset` on, which is not before written().
  void ReadUnwritten(int64_t offset, absl::Span<char> out) const;

 private:
  // A page that was begun is written again as a whole: what precedes in it is
  // read, so that nothing is in the file before what lies in front of it.
  absl::Status MakeBuffer(size_t wanted);
  // What comes next is at `offset`.
  void GoTo(int64_t offset);
  // Writes the buffer, and goes on after it.
  absl::Status WriteOut();

  WrittenFile& file_;
  const Sink sink_;
  // Where byte 0 of the buffer is in the file: a page's begin.
  int64_t base_ = 0;
  PageBuffer buffer_;
  size_t capacity_ = 0;
  // What of the buffer waits to be written.
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_DIRECT_APPENDER_H_
