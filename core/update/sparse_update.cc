#include "core/update/sparse_update.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/replacement_update.h"
#include "core/update/sparse_layout.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

constexpr int64_t kRankMax = 64;
// A reader may begin at every so many-th change.
constexpr int64_t kSkipInterval = 1024;

absl::Status Malformed(absl::string_view tensor, absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
      absl::StrCat(kUpdateFile, ": tensor ", JsonQuote(tensor), " ", what),
      {{"file", kUpdateFile}, {"tensor", std::string(tensor)}});
}

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

  absl::Status OverlayRange(size_t index, int64_t first, int64_t count,
                            absl::Span<char> bytes) const override {
    const Changes& changes = changes_[index];
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

// Takes records off the table of tensors.
class TableReader {
 public:
  explicit TableReader(absl::string_view table) : table_(table) {}

  bool done() const { return table_.empty(); }

  absl::StatusOr<Changes> Next(int64_t& gaps_bytes) {
    Changes out;
    CAIRN_RETURN_IF_ERROR(ReadName(out.spec.name));
    CAIRN_ASSIGN_OR_RETURN(absl::string_view dtype, Text("dtype"));
    auto known = ParseDType(dtype);
    if (!known.has_value()) {
      return Malformed(name_, absl::StrCat("has the unknown dtype ",
                                           JsonQuote(dtype.substr(0, 40))));
    }
    out.spec.dtype = *known;
    CAIRN_ASSIGN_OR_RETURN(int64_t rank, Number("rank"));
    if (rank > kRankMax) {
      return Malformed(
          name_, absl::StrCat("has ", rank, " dimensions; at most ", kRankMax,
                              " are allowed"));
    }
    for (int64_t i = 0; i < rank; ++i) {
      CAIRN_ASSIGN_OR_RETURN(int64_t dimension, Number("shape"));
      out.spec.shape.push_back(dimension);
    }
    auto bytes = PackedBytes(out.spec.dtype, out.spec.shape);
    if (!bytes.ok()) return Malformed(name_, bytes.status().message());
    CAIRN_ASSIGN_OR_RETURN(out.count, Number("count of changes"));
    CAIRN_ASSIGN_OR_RETURN(gaps_bytes, Number("length of gaps"));
    if (out.count < 1 || out.count > out.spec.elements()) {
      return Malformed(name_, absl::StrCat("has ", out.count, " changes but ",
                                           out.spec.elements(), " elements"));
    }
    return out;
  }

 private:
  absl::Status CutShort(absl::string_view field) const {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
        absl::StrCat(kUpdateFile, ": ", kSparseTable,
                     " is cut short or malformed in the ", field,
                     " of the tensor after ", JsonQuote(name_)),
        {{"file", kUpdateFile}});
  }

  absl::StatusOr<int64_t> Number(absl::string_view field) {
    std::optional<uint64_t> value = ConsumeVarint(table_);
    if (!value.has_value()) return CutShort(field);
    return static_cast<int64_t>(*value);
  }

  absl::StatusOr<absl::string_view> Text(absl::string_view field) {
    CAIRN_ASSIGN_OR_RETURN(int64_t length, Number(field));
    if (static_cast<uint64_t>(length) > table_.size()) return CutShort(field);
    absl::string_view text = table_.substr(0, static_cast<size_t>(length));
    table_.remove_prefix(text.size());
    return text;
  }

  absl::Status ReadName(std::string& out) {
    CAIRN_ASSIGN_OR_RETURN(int64_t shared, Number("name"));
    if (static_cast<uint64_t>(shared) > name_.size()) return CutShort("name");
    CAIRN_ASSIGN_OR_RETURN(absl::string_view suffix, Text("name"));
    out = absl::StrCat(name_.substr(0, static_cast<size_t>(shared)), suffix);
    const bool is_plain = out.size() <= kSparseNameBytesMax &&
                          std::none_of(out.begin(), out.end(), [](char c) {
                            return static_cast<uint8_t>(c) < 0x20;
                          });
    if (!is_plain) return CutShort("name");
    if (out <= name_) {
      return Malformed(out, absl::StrCat("does not come after ",
                                         JsonQuote(name_), " by name"));
    }
    name_ = out;
    return absl::OkStatus();
  }

  absl::string_view table_;
  std::string name_;
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
      return Malformed(changes.spec.name,
                       absl::StrCat("has a gap that is cut short or "
                                    "malformed, at change ",
                                    entry, " of ", changes.count));
    }
    if (*position >= elements) {
      return Malformed(
          changes.spec.name,
          absl::StrCat("changes element ", *position, " of ", elements));
    }
    previous = *position;
  }
  if (reader.offset() != changes.gaps_end) {
    return Malformed(changes.spec.name,
                     absl::StrCat("has ", changes.gaps_end - reader.offset(),
                                  " bytes of gaps more than its ",
                                  changes.count, " changes take"));
  }
  return absl::OkStatus();
}

// One of the three byte strings of the file.
absl::StatusOr<TensorEntry> FindPart(const SafetensorsHeader& header,
                                     const char* name) {
  const TensorEntry* entry = header.Find(name);
  if (entry == nullptr || entry->dtype != DType::kU8 ||
      entry->shape.size() != 1) {
    return Malformed(name, "must be there as a U8 vector");
  }
  return *entry;
}

absl::Status WrongLength(const TensorEntry& part, int64_t taken) {
  return Malformed(part.name, absl::StrCat("has ", part.end - part.begin,
                                           " bytes, but the tensors in ",
                                           kSparseTable, " take ", taken));
}

// The table of tensors, with every range checked against the two streams.
absl::StatusOr<std::vector<Changes>> ReadTable(const ByteSource& file,
                                               const TensorEntry& table,
                                               const TensorEntry& gaps,
                                               const TensorEntry& values) {
  const int64_t table_bytes = table.end - table.begin;
  if (table_bytes > kSafetensorsHeaderBytesMax) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat(kUpdateFile, ": ", kSparseTable, " has ", table_bytes,
                     " bytes; at most ", kSafetensorsHeaderBytesMax,
                     " are allowed"),
        {{"file", kUpdateFile}, {"tensor", kSparseTable}});
  }
  std::string text(static_cast<size_t>(table_bytes), '\0');
  CAIRN_RETURN_IF_ERROR(
      file.ReadAt(table.begin, absl::MakeSpan(&text[0], text.size())));
  TableReader reader(text);
  std::vector<Changes> out;
  int64_t gaps_at = gaps.begin;
  int64_t values_at = values.begin;
  while (!reader.done()) {
    if (out.size() == static_cast<size_t>(kSafetensorsTensorsMax)) {
      return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                           absl::StrCat(kUpdateFile, ": more than ",
                                        kSafetensorsTensorsMax, " tensors"),
                           {{"file", kUpdateFile}});
    }
    int64_t gaps_bytes = 0;
    CAIRN_ASSIGN_OR_RETURN(Changes changes, reader.Next(gaps_bytes));
    CAIRN_RETURN_IF_ERROR(
        CheckReplaceable(changes.spec.name, changes.spec.dtype));
    // Within the tensor's own packed size, so it cannot overflow.
    const int64_t values_bytes =
        changes.count * DTypeBits(changes.spec.dtype) / 8;
    if (gaps_bytes > gaps.end - gaps_at ||
        values_bytes > values.end - values_at) {
      return Malformed(changes.spec.name,
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
  if (out.empty()) return Malformed(kSparseTable, "names no tensor");
  return out;
}

}  // namespace

int SparseGapBytes(int64_t previous, int64_t position) {
  return VarintBytes(static_cast<uint64_t>(position - previous - 1));
}

absl::StatusOr<std::unique_ptr<Update>> OpenSparseUpdate(
    SharedSource file, const SafetensorsHeader& header) {
  CAIRN_ASSIGN_OR_RETURN(TensorEntry table, FindPart(header, kSparseTable));
  CAIRN_ASSIGN_OR_RETURN(TensorEntry gaps, FindPart(header, kSparseGaps));
  CAIRN_ASSIGN_OR_RETURN(TensorEntry values, FindPart(header, kSparseValues));
  for (const TensorEntry& entry : header.tensors()) {
    if (entry.name != kSparseTable && entry.name != kSparseGaps &&
        entry.name != kSparseValues) {
      return Malformed(entry.name, "does not belong in a sparse update");
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
