#include "core/update/sparse_update.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/update/replacement_update.h"
#include "core/update/tensor_table.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

// A reader may begin at every so many-th change.
constexpr int64_t kSkipInterval = 1024;

// The byte strings of a sparse update's first version, beside its table.
constexpr char kSparseGaps[] = "cairn.gaps";
constexpr char kSparseValues[] = "cairn.values";

// Where decoding may begin: before change `entry`, whose gap stands at
// `offset` and counts from the position `previous` of the change before.
struct SkipPoint {
  int64_t entry = 0;
  int64_t previous = -1;
  int64_t offset = 0;
};

// The changes of one tensor.
struct Changes {
  TensorSpec spec;
  int64_t count = 0;
  int64_t gaps_begin = 0;  // in the file, like the next three
  int64_t gaps_end = 0;
  int64_t values_begin = 0;
  std::vector<SkipPoint> skips;
};

// Positions from a stream of gaps, read through a small buffer.
class PositionReader {
 public:
  PositionReader(const ByteSource& file, int64_t offset, int64_t end,
                 int64_t previous)
      : file_(file), offset_(offset), end_(end), previous_(previous) {}

  // The next position; none when the bytes that are left hold no gap.
  absl::StatusOr<std::optional<int64_t>> Next() {
    if (view_.size() < kVarintBytesMax && offset_ < end_) {
      CAIRN_RETURN_IF_ERROR(Refill());
    }
    std::optional<uint64_t> gap = ConsumeVarint(view_);
    if (!gap.has_value()) return std::optional<int64_t>();
    int64_t position;
    if (__builtin_add_overflow(previous_ + 1, static_cast<int64_t>(*gap),
                               &position)) {
      return std::optional<int64_t>();
    }
    previous_ = position;
    return std::optional<int64_t>(position);
  }

  // Offset in the file of the next gap.
  int64_t offset() const {
    return offset_ - static_cast<int64_t>(view_.size());
  }

 private:
  absl::Status Refill() {
    std::memmove(buffer_, view_.data(), view_.size());
    const int64_t room = static_cast<int64_t>(sizeof(buffer_) - view_.size());
    const auto length = static_cast<size_t>(std::min(room, end_ - offset_));
    CAIRN_RETURN_IF_ERROR(
        file_.ReadAt(offset_, absl::MakeSpan(buffer_ + view_.size(), length)));
    view_ = absl::string_view(buffer_, view_.size() + length);
    offset_ += static_cast<int64_t>(length);
    return absl::OkStatus();
  }

  const ByteSource& file_;
  int64_t offset_;
  const int64_t end_;
  int64_t previous_;
  char buffer_[4096];
  absl::string_view view_ = absl::string_view(buffer_, 0);
};

class SparseUpdate : public ReplacementUpdate {
 public:
  SparseUpdate(SharedSource file, std::vector<TouchedTensor> touched,
               std::vector<Changes> changes, std::string base_digest)
      : ReplacementUpdate(std::move(file), std::move(touched),
                          std::move(base_digest)),
        changes_(std::move(changes)) {}

  v1::Encoding::Kind encoding() const override { return v1::Encoding::SPARSE; }

 private:
  Range ValuesOf(size_t index) const override {
    const Changes& changes = changes_[index];
    return {changes.values_begin,
            changes.count * DTypeBits(changes.spec.dtype) / 8};
  }

  absl::Status ReadRange(size_t index, const ByteSource& base, int64_t first,
                         absl::Span<char> bytes) const override {
    const Changes& changes = changes_[index];
    const int64_t width = DTypeBits(changes.spec.dtype) / 8;
    const int64_t count = static_cast<int64_t>(bytes.size()) / width;
    CAIRN_RETURN_IF_ERROR(base.ReadAt(first * width, bytes));
    // The last point before which every change lies before `first`.
    auto after = std::partition_point(
        changes.skips.begin(), changes.skips.end(),
        [&](const SkipPoint& skip) { return skip.previous < first; });
    const SkipPoint& skip = *(after - 1);
    PositionReader reader(file(), skip.offset, changes.gaps_end, skip.previous);
    std::vector<int64_t> positions;
    int64_t begin = skip.entry;  // the change that positions[0] belongs to
    for (int64_t entry = skip.entry; entry < changes.count; ++entry) {
      CAIRN_ASSIGN_OR_RETURN(std::optional<int64_t> position, reader.Next());
      if (!position.has_value()) {
        return absl::DataLossError(
            absl::StrCat(kUpdateFile, " changed while it was read"));
      }
      if (*position >= first + count) break;
      if (*position < first) {
        begin = entry + 1;
        continue;
      }
      positions.push_back(*position - first);
      if (positions.size() == kSkipInterval) {
        CAIRN_RETURN_IF_ERROR(Scatter(changes, begin, positions, bytes));
        begin = entry + 1;
        positions.clear();
      }
    }
    return Scatter(changes, begin, positions, bytes);
  }

  // Puts the values of changes `begin`... to their places.
  absl::Status Scatter(const Changes& changes, int64_t begin,
                       const std::vector<int64_t>& positions,
                       absl::Span<char> bytes) const {
    if (positions.empty()) return absl::OkStatus();
    const auto width = static_cast<size_t>(DTypeBits(changes.spec.dtype) / 8);
    std::vector<char> values(positions.size() * width);
    CAIRN_RETURN_IF_ERROR(file().ReadAt(
        changes.values_begin + begin * static_cast<int64_t>(width),
        absl::MakeSpan(values)));
    for (size_t i = 0; i < positions.size(); ++i) {
      std::memcpy(bytes.data() + static_cast<size_t>(positions[i]) * width,
                  values.data() + i * width, width);
    }
    return absl::OkStatus();
  }

  const std::vector<Changes> changes_;  // in the order of touched()
};

// Reads all gaps of a tensor once: checks them and notes where to begin.
absl::Status ScanGaps(const ByteSource& file, Changes& changes) {
  PositionReader reader(file, changes.gaps_begin, changes.gaps_end, -1);
  const int64_t elements = changes.spec.elements();
  int64_t previous = -1;
  for (int64_t entry = 0; entry < changes.count; ++entry) {
    if (entry % kSkipInterval == 0) {
      changes.skips.push_back({entry, previous, reader.offset()});
    }
    CAIRN_ASSIGN_OR_RETURN(std::optional<int64_t> position, reader.Next());
    if (!position.has_value()) {
      return MalformedTensor(changes.spec.name,
                             absl::StrCat("has a gap that is cut short or "
                                          "malformed, at change ",
                                          entry, " of ", changes.count));
    }
    if (*position >= elements) {
      return MalformedTensor(
          changes.spec.name,
          absl::StrCat("changes element ", *position, " of ", elements));
    }
    previous = *position;
  }
  if (reader.offset() != changes.gaps_end) {
    return MalformedTensor(
        changes.spec.name,
        absl::StrCat("has ", changes.gaps_end - reader.offset(),
                     " bytes of gaps more than its ", changes.count,
                     " changes take"));
  }
  return absl::OkStatus();
}

absl::Status WrongLength(const TensorEntry& part, int64_t taken) {
  return MalformedTensor(
      part.name,
      absl::StrCat("has ", part.end - part.begin, " bytes, but the tensors in ",
                   kTensorTable, " take ", taken));
}

// The table of tensors, with every range checked against the two streams.
absl::StatusOr<std::vector<Changes>> ReadTable(const ByteSource& file,
                                               const TensorEntry& table,
                                               const TensorEntry& gaps,
                                               const TensorEntry& values) {
  CAIRN_ASSIGN_OR_RETURN(const std::string text, ReadTensorTable(file, table));
  TensorTableReader reader(text);
  std::vector<Changes> out;
  int64_t gaps_at = gaps.begin;
  int64_t values_at = values.begin;
  while (!reader.done()) {
    Changes changes;
    CAIRN_ASSIGN_OR_RETURN(changes.spec, reader.NextTensor());
    CAIRN_ASSIGN_OR_RETURN(changes.count, reader.Number("count of changes"));
    CAIRN_ASSIGN_OR_RETURN(const int64_t gaps_bytes,
                           reader.Number("length of gaps"));
    const int64_t elements = changes.spec.elements();
    if (changes.count < 1 || changes.count > elements) {
      return MalformedTensor(
          changes.spec.name,
          absl::StrCat("has ", changes.count, " changes but ", elements,
                       " elements"));
    }
    // Within the tensor's own packed size, so it cannot overflow.
    const int64_t values_bytes =
        changes.count * DTypeBits(changes.spec.dtype) / 8;
    if (gaps_bytes > gaps.end - gaps_at ||
        values_bytes > values.end - values_at) {
      return MalformedTensor(changes.spec.name,
                             absl::StrCat("has ", changes.count,
                                          " changes, more than the file holds "
                                          "positions and values for"));
    }
    changes.gaps_begin = gaps_at;
    changes.gaps_end = gaps_at += gaps_bytes;
    changes.values_begin = values_at;
    values_at += values_bytes;
    out.push_back(std::move(changes));
  }
  if (gaps_at != gaps.end) return WrongLength(gaps, gaps_at - gaps.begin);
  if (values_at != values.end) {
    return WrongLength(values, values_at - values.begin);
  }
  if (out.empty()) return MalformedTensor(kTensorTable, "names no tensor");
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenSparseUpdate(
    SharedSource file, const SafetensorsHeader& header) {
  CAIRN_ASSIGN_OR_RETURN(TensorEntry table,
                         FindByteString(header, kTensorTable));
  CAIRN_ASSIGN_OR_RETURN(TensorEntry gaps, FindByteString(header, kSparseGaps));
  CAIRN_ASSIGN_OR_RETURN(TensorEntry values,
                         FindByteString(header, kSparseValues));
  for (const TensorEntry& entry : header.tensors()) {
    if (entry.name != kTensorTable && entry.name != kSparseGaps &&
        entry.name != kSparseValues) {
      return MalformedTensor(entry.name, "does not belong in a sparse update");
    }
  }
  CAIRN_ASSIGN_OR_RETURN(std::vector<Changes> all,
                         ReadTable(*file, table, gaps, values));
  std::vector<TouchedTensor> touched;
  for (Changes& changes : all) {
    CAIRN_RETURN_IF_ERROR(ScanGaps(*file, changes));
    touched.push_back({.name = changes.spec.name,
                       .shape = changes.spec.shape,
                       .dtype = changes.spec.dtype});
  }
  return std::make_unique<SparseUpdate>(std::move(file), std::move(touched),
                                        std::move(all),
                                        header.metadata().at("cairn.base"));
}

}  // namespace cairn
