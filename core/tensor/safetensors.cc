#include "core/tensor/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json_value.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors_header_parser.h"

namespace cairn {
namespace {

absl::Status Malformed(absl::string_view label, absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(label, ": ", what),
                       {{"file", std::string(label)}});
}

absl::Status MalformedTensor(absl::string_view label, absl::string_view tensor,
                             absl::string_view what) {
  return WithDetails(
      Malformed(label, absl::StrCat("tensor ", JsonQuote(tensor), ": ", what)),
      {{"tensor", std::string(tensor)}});
}

// The 8 bytes that say how long the header is.
absl::StatusOr<int64_t> CheckHeaderLength(absl::string_view count,
                                          int64_t file_size,
                                          absl::string_view label) {
  uint64_t length = 0;
  std::memcpy(&length, count.data(), 8);
  if (length > static_cast<uint64_t>(file_size - 8)) {
    return Malformed(
        label, absl::StrCat("the header is said to have ", length,
                            " bytes but the file has only ", file_size - 8,
                            " after its first 8: it is cut short or not a "
                            "safetensors file"));
  }
  if (length > static_cast<uint64_t>(kSafetensorsHeaderBytesMax)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat(label, ": the header has ", length, " bytes; at most ",
                     kSafetensorsHeaderBytesMax, " are allowed"),
        {{"file", std::string(label)},
         {"measured", absl::StrCat(length)},
         {"limit", absl::StrCat(kSafetensorsHeaderBytesMax)}});
  }
  return static_cast<int64_t>(length);
}

// Checks one tensor's range against its type and the end of the one before.
absl::Status CheckRange(const TensorEntry& tensor, int64_t expected_begin,
                        int64_t buffer_size, absl::string_view label) {
  auto bytes = PackedBytes(tensor.dtype, tensor.shape);
  if (!bytes.ok()) {
    return MalformedTensor(label, tensor.name, bytes.status().message());
  }
  if (tensor.end < tensor.begin || tensor.end > buffer_size) {
    return MalformedTensor(
        label, tensor.name,
        absl::StrCat("data_offsets [", tensor.begin, ", ", tensor.end,
                     "] do not lie within the file's ", buffer_size,
                     " bytes of tensors"));
  }
  if (tensor.end - tensor.begin != *bytes) {
    return MalformedTensor(
        label, tensor.name,
        absl::StrCat("data_offsets span ", tensor.end - tensor.begin,
                     " bytes but ", DTypeName(tensor.dtype), " ",
                     ShapeText(tensor.shape), " takes ", *bytes));
  }
  if (tensor.begin != expected_begin) {
    return MalformedTensor(
        label, tensor.name,
        absl::StrCat("begins at ", tensor.begin, " where ", expected_begin,
                     " is expected: tensors must follow each other without ",
                     tensor.begin < expected_begin ? "overlap" : "holes"));
  }
  return absl::OkStatus();
}

}  // namespace

int64_t TensorSpec::elements() const {
  int64_t count = 1;
  for (int64_t dimension : shape) count *= dimension;
  return count;
}

int64_t TensorSpec::size_bytes() const {
  auto bytes = PackedBytes(dtype, shape);
  CAIRN_CHECK(bytes.ok());
  return *bytes;
}

std::string ShapeText(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<SafetensorsHeader> SafetensorsHeader::Read(
    const ByteSource& file, absl::string_view label) {
  if (file.size() < 8) {
    return Malformed(label,
                     absl::StrCat("has ", file.size(),
                                  " bytes; a safetensors file has at least 8"));
  }
  std::string header(8, '\0');
  CAIRN_RETURN_IF_ERROR(file.ReadAt(0, absl::MakeSpan(&header[0], 8)));
  CAIRN_ASSIGN_OR_RETURN(int64_t length,
                         CheckHeaderLength(header, file.size(), label));
  header.resize(static_cast<size_t>(8 + length));
  CAIRN_RETURN_IF_ERROR(
      file.ReadAt(8, absl::MakeSpan(&header[8], static_cast<size_t>(length))));
  return Parse(header, file.size(), label);
}

absl::StatusOr<SafetensorsHeader> SafetensorsHeader::Parse(
    absl::string_view header, int64_t file_size, absl::string_view label) {
  if (header.size() < 8 || file_size < static_cast<int64_t>(header.size())) {
    return Malformed(label, absl::StrCat("has a header of ", header.size(),
                                         " bytes in a file of ", file_size));
  }
  CAIRN_ASSIGN_OR_RETURN(int64_t length,
                         CheckHeaderLength(header, file_size, label));
  if (header.size() != static_cast<size_t>(8 + length)) {
    return Malformed(
        label, absl::StrCat("the header is said to have ", length,
                            " bytes but ", header.size() - 8, " were given"));
  }
  SafetensorsHeader out;
  out.header_bytes_ = 8 + length;
  CAIRN_RETURN_IF_ERROR(internal::ParseHeaderText(header.substr(8), label,
                                                  out.tensors_, out.metadata_));
  std::stable_sort(out.tensors_.begin(), out.tensors_.end(),
                   [](const TensorEntry& a, const TensorEntry& b) {
                     return std::pair(a.begin, a.end) <
                            std::pair(b.begin, b.end);
                   });
  const int64_t buffer_size = file_size - out.header_bytes_;
  int64_t end = 0;
  for (TensorEntry& tensor : out.tensors_) {
    CAIRN_RETURN_IF_ERROR(CheckRange(tensor, end, buffer_size, label));
    end = tensor.end;
    tensor.begin += out.header_bytes_;
    tensor.end += out.header_bytes_;
    out.index_[tensor.name] = out.index_.size();
  }
  if (end != buffer_size) {
    return Malformed(
        label, absl::StrCat("the tensors end at byte ", out.header_bytes_ + end,
                            " but the file at ", file_size));
  }
  return out;
}

const TensorEntry* SafetensorsHeader::Find(absl::string_view name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

absl::StatusOr<SafetensorsLayout> LayOutSafetensors(
    std::vector<TensorSpec> tensors,
    const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSpec& a, const TensorSpec& b) {
              return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
            });
  SafetensorsLayout layout;
  std::string json = "{";
  if (!metadata.empty()) {
    absl::StrAppend(&json, "\"__metadata__\":{",
                    absl::StrJoin(metadata, ",",
                                  [](std::string* out, const auto& entry) {
                                    absl::StrAppend(out, JsonQuote(entry.first),
                                                    ":",
                                                    JsonQuote(entry.second));
                                  }),
                    "}");
  }
  absl::flat_hash_map<std::string, size_t> seen;
  int64_t end = 0;
  for (TensorSpec& tensor : tensors) {
    if (tensor.name == "__metadata__" ||
        !seen.emplace(tensor.name, seen.size()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", JsonQuote(tensor.name),
                       " cannot be written: the name is taken"));
    }
    auto bytes = PackedBytes(tensor.dtype, tensor.shape);
    if (!bytes.ok()) {
      return Annotate(bytes.status(),
                      absl::StrCat("tensor ", JsonQuote(tensor.name)));
    }
    absl::StrAppend(&json, json.size() > 1 ? "," : "", JsonQuote(tensor.name),
                    ":{\"dtype\":\"", DTypeName(tensor.dtype), "\",\"shape\":[",
                    absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[",
                    end, ",", end + *bytes, "]}");
    TensorEntry entry;
    static_cast<TensorSpec&>(entry) = std::move(tensor);
    entry.begin = end;
    entry.end = end += *bytes;
    layout.tensors.push_back(std::move(entry));
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const uint64_t length = json.size();
  layout.header.resize(8);
  std::memcpy(&layout.header[0], &length, 8);
  layout.header += json;
  const auto shift = static_cast<int64_t>(layout.header.size());
  for (TensorEntry& entry : layout.tensors) {
    entry.begin += shift;
    entry.end += shift;
  }
  layout.file_bytes = shift + end;
  return layout;
}

}  // namespace cairn
