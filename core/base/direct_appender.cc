#include "core/base/direct_appender.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr size_t kLeastBufferBytes = 64 << 10;

}  // namespace

DirectAppender::DirectAppender(WrittenFile& file, int64_t offset, Sink sink)
    : file_(file), sink_(std::move(sink)) {
  GoTo(offset);
}

absl::Status DirectAppender::Append(
    absl::Span<const absl::string_view> pieces) {
  const int64_t start = end();
  size_t left = 0;
  for (absl::string_view piece : pieces) left += piece.size();
  for (absl::string_view piece : pieces) {
    while (!piece.empty()) {
      if (buffer_ == nullptr) CAIRN_RETURN_IF_ERROR(MakeBuffer(left));
      const size_t size = std::min(piece.size(), capacity_ - end_);
      std::memcpy(buffer_.get() + end_, piece.data(), size);
      end_ += size;
      piece.remove_prefix(size);
      left -= size;
      if (end_ < capacity_) continue;
      if (absl::Status status = WriteOut(); !status.ok()) {
        // What an earlier buffer of this call took is not to count.
        if (start < this->written()) {
          buffer_.reset();
          GoTo(start);
        }
        end_ = static_cast<size_t>(start - base_);
        return status;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status DirectAppender::MakeBuffer(size_t wanted) {
  // Filled by what is there, so that little waits for more of it.
  capacity_ = std::clamp((begin_ + wanted) / kDirectPage * kDirectPage,
                         kLeastBufferBytes, kBufferBytes);
  PageBuffer buffer = MakePageBuffer(capacity_);
  for (size_t at = 0; at < begin_;) {
    const ssize_t n = pread(file_.fd, buffer.get() + at, begin_ - at,
                            base_ + static_cast<int64_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return n < 0 ? SystemError(errno, absl::StrCat("read ", file_.name))
                   : absl::DataLossError(
                         absl::StrCat(file_.name, " ends before ", written()));
    }
    at += static_cast<size_t>(n);
  }
  buffer_ = std::move(buffer);
  return absl::OkStatus();
}

void DirectAppender::GoTo(int64_t offset) {
  base_ = offset - offset % static_cast<int64_t>(kDirectPage);
  begin_ = static_cast<size_t>(offset - base_);
  end_ = begin_;
}

absl::Status DirectAppender::WriteOut() {
  FileBytes bytes = {.memory = std::move(buffer_),
                     .begin = begin_,
                     .end = end_,
                     .offset = written()};
  if (sink_ != nullptr) {
    sink_(std::move(bytes));
  } else if (absl::Status status = bytes.WriteTo(file_); !status.ok()) {
    buffer_ = std::move(bytes.memory);
    return status;
  }
  GoTo(end());
  return absl::OkStatus();
}

absl::Status DirectAppender::Flush() {
  if (begin_ < end_) CAIRN_RETURN_IF_ERROR(WriteOut());
  buffer_.reset();
  return absl::OkStatus();
}

void DirectAppender::ReadUnwritten(int64_t offset, absl::Span<char> out) const {
  if (out.empty()) return;
  std::memcpy(out.data(), buffer_.get() + (offset - base_), out.size());
}

}  // namespace cairn
