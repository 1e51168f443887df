#include "merge/engine/tensor_stream.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/log.h"

namespace cairn {

constexpr size_t kPage = WriteBehind::kPage;

TensorStream::~TensorStream() {
  if (buffer_ != nullptr) disk_.GiveBack(buffer_);
}

absl::string_view TensorStream::Unhashed() const {
  if (buffer_ == nullptr) return {};
  return {buffer_ + hashed_, end_ - hashed_};
}

void TensorStream::TakeBuffer() {
  const int64_t at = place_.begin + filled_;
  offset_ = at / static_cast<int64_t>(kPage) * static_cast<int64_t>(kPage);
  begin_ = hashed_ = end_ = static_cast<size_t>(at - offset_);
  buffer_ = disk_.Take();
}

void TensorStream::Flush() {
  hasher_.Update(Unhashed());
  const size_t pages_end = end_ / kPage * kPage;
  char left[kPage];
  const size_t count = end_ - pages_end;
  std::memcpy(left, buffer_ + pages_end, count);
  // Given away before the next is taken: see WriteBehind::Take().
  disk_.Write(*place_.file, offset_, buffer_, begin_, pages_end);
  buffer_ = disk_.Take();
  std::memcpy(buffer_, left, count);
  offset_ += static_cast<int64_t>(pages_end);
  begin_ = 0;
  hashed_ = end_ = count;
}

absl::Span<char> TensorStream::Room(size_t wanted) {
  const size_t capacity = disk_.buffer_bytes();
  if (buffer_ == nullptr) TakeBuffer();
  if (capacity - end_ < std::min(wanted, capacity - kPage)) Flush();
  return {buffer_ + end_, std::min(wanted, capacity - end_)};
}

void TensorStream::Fill(size_t count) {
  end_ += count;
  filled_ += static_cast<int64_t>(count);
}

void TensorStream::Append(absl::Span<const char> bytes) {
  while (!bytes.empty()) {
    const absl::Span<char> room = Room(bytes.size());
    std::memcpy(room.data(), bytes.data(), room.size());
    Fill(room.size());
    bytes.remove_prefix(room.size());
  }
}

void TensorStream::HashTogether(absl::Span<TensorStream* const> streams) {
  std::vector<LaneHasher::Part> parts;
  for (TensorStream* stream : streams) {
    parts.push_back({&stream->hasher_, stream->Unhashed()});
    stream->hashed_ = stream->end_;
  }
  LaneHasher::UpdateAll(parts);
}

Digest TensorStream::Finish() {
  CAIRN_CHECK(filled_ == place_.size);
  if (buffer_ != nullptr) {
    hasher_.Update(Unhashed());
    disk_.Write(*place_.file, offset_, buffer_, begin_, end_);
    buffer_ = nullptr;
  }
  return hasher_.Finish();
}

}  // namespace cairn
