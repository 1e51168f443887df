#include "core/update/position_list.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/update/tensor_table.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

// A block's length and the bytes that follow.
struct CodedBlock {
  int64_t begin = 0;
  int64_t size = 0;
};

// The block whose length stands at `offset`; none when it is cut short, empty
// or longer than any block is.
absl::StatusOr<std::optional<CodedBlock>> FindBlock(const ByteSource& file,
                                                    int64_t offset,
                                                    int64_t end) {
  char buffer[kVarintBytesMax];
  const auto length =
      static_cast<size_t>(std::min<int64_t>(kVarintBytesMax, end - offset));
  CAIRN_RETURN_IF_ERROR(file.ReadAt(offset, absl::MakeSpan(buffer, length)));
  absl::string_view view(buffer, length);
  const std::optional<uint64_t> size = ConsumeVarint(view);
  if (!size.has_value() || *size == 0 || *size > kPositionBytesMax) {
    return std::optional<CodedBlock>();
  }
  const CodedBlock block = {
      .begin = offset + static_cast<int64_t>(length - view.size()),
      .size = static_cast<int64_t>(*size)};
  if (block.size > end - block.begin) return std::optional<CodedBlock>();
  return std::optional<CodedBlock>(block);
}

}  // namespace

absl::StatusOr<PositionList> PositionList::Open(SharedSource file,
                                                int64_t offset, int64_t bytes,
                                                int64_t count, int64_t elements,
                                                absl::string_view tensor,
                                                absl::string_view label) {
  constexpr auto kBlock = static_cast<int64_t>(kPositionBlock);
  PositionList list;
  list.count_ = count;
  list.elements_ = elements;
  list.end_ = offset + bytes;
  PositionDecoder decoder;
  std::vector<char> coded;
  std::vector<int64_t> positions(kPositionBlock);
  int64_t previous = -1;
  for (int64_t entry = 0; entry < count; entry += kBlock) {
    CAIRN_ASSIGN_OR_RETURN(const std::optional<CodedBlock> block,
                           FindBlock(*file, offset, list.end_));
    if (!block.has_value()) {
      return MalformedTensor(
          tensor,
          absl::StrCat("has no whole block of positions at change ", entry,
                       " of ", count),
          label);
    }
    list.blocks_.push_back({offset, previous});
    coded.resize(static_cast<size_t>(block->size));
    CAIRN_RETURN_IF_ERROR(file->ReadAt(block->begin, absl::MakeSpan(coded)));
    const auto length = static_cast<size_t>(std::min(kBlock, count - entry));
    const absl::Status decoded =
        decoder.Decode({coded.data(), coded.size()}, previous, elements,
                       absl::MakeSpan(positions).subspan(0, length));
    if (!decoded.ok()) {
      return MalformedTensor(tensor,
                             absl::StrCat(decoded.message(), " (change ", entry,
                                          " of ", count, ")"),
                             label);
    }
    previous = positions[length - 1];
    offset = block->begin + block->size;
  }
  if (offset != list.end_) {
    return MalformedTensor(tensor,
                           absl::StrCat("has ", list.end_ - offset,
                                        " bytes of positions more than its ",
                                        count, " changes take"),
                           label);
  }
  list.file_ = std::move(file);
  list.memory_ = std::make_unique<Memory>();
  return list;
}

absl::StatusOr<PositionList::Positions> PositionList::Decode(
    size_t block) const {
  CAIRN_ASSIGN_OR_RETURN(const std::optional<CodedBlock> found,
                         FindBlock(*file_, blocks_[block].offset, end_));
  const auto entry = static_cast<int64_t>(block * kPositionBlock);
  auto positions = std::make_shared<std::vector<int64_t>>(static_cast<size_t>(
      std::min(count_ - entry, static_cast<int64_t>(kPositionBlock))));
  if (found.has_value()) {
    std::vector<char> coded(static_cast<size_t>(found->size));
    CAIRN_RETURN_IF_ERROR(file_->ReadAt(found->begin, absl::MakeSpan(coded)));
    const absl::Status decoded = PositionDecoder().Decode(
        {coded.data(), coded.size()}, blocks_[block].previous, elements_,
        absl::MakeSpan(*positions));
    if (decoded.ok()) return positions;
  }
  return absl::DataLossError("a file of the update changed while it was read");
}

absl::StatusOr<PositionList::Positions> PositionList::Read(size_t block) const {
  {
    MutexLock lock(memory_->mutex);
    if (memory_->positions != nullptr && memory_->block == block) {
      return memory_->positions;
    }
  }
  CAIRN_ASSIGN_OR_RETURN(Positions positions, Decode(block));
  MutexLock lock(memory_->mutex);
  memory_->block = block;
  memory_->positions = positions;
  return positions;
}

absl::Status PositionList::ForRange(int64_t first, int64_t length,
                                    const Visit& visit) const {
  // The last block before which every change lies before `first`.
  const auto after = std::partition_point(
      blocks_.begin(), blocks_.end(),
      [&](const Block& block) { return block.previous < first; });
  const auto begin = static_cast<size_t>(after - blocks_.begin());
  for (size_t b = begin == 0 ? 0 : begin - 1; b < blocks_.size(); ++b) {
    if (blocks_[b].previous >= first + length - 1) break;
    CAIRN_ASSIGN_OR_RETURN(const Positions shared, Read(b));
    const std::vector<int64_t>& positions = *shared;
    const auto from =
        std::lower_bound(positions.begin(), positions.end(), first);
    const auto to = std::lower_bound(from, positions.end(), first + length);
    if (from == to) continue;
    CAIRN_RETURN_IF_ERROR(visit(
        static_cast<int64_t>(b * kPositionBlock) + (from - positions.begin()),
        absl::MakeConstSpan(positions).subspan(
            static_cast<size_t>(from - positions.begin()),
            static_cast<size_t>(to - from))));
  }
  if (first + length >= elements_) {
    MutexLock lock(memory_->mutex);
    memory_->positions = nullptr;
  }
  return absl::OkStatus();
}

absl::Status PositionListWriter::Add(absl::Span<const int64_t> positions) {
  for (const int64_t position : positions) {
    if (position <= previous_ || position >= elements_) {
      return absl::InvalidArgumentError(
          absl::StrCat("position ", position, " must lie after ", previous_,
                       " and before ", elements_));
    }
    previous_ = position;
    pending_.push_back(position);
    if (pending_.size() == kPositionBlock) CAIRN_RETURN_IF_ERROR(Flush());
  }
  count_ += static_cast<int64_t>(positions.size());
  return absl::OkStatus();
}

absl::Status PositionListWriter::Flush() {
  if (pending_.empty()) return absl::OkStatus();
  coded_.clear();
  encoder_.Encode(coded_previous_, pending_, coded_);
  coded_previous_ = pending_.back();
  pending_.clear();
  std::string length;
  AppendVarint(coded_.size(), length);
  CAIRN_RETURN_IF_ERROR(out_.Append(length));
  return out_.Append(coded_);
}

}  // namespace cairn
