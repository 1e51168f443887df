#include "core/update/tensor_table.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/base/utf8.h"
#include "core/update/replacement_update.h"
#include "core/update/update.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

constexpr int64_t kRankMax = 64;

}  // namespace

absl::Status MalformedTensor(absl::string_view tensor, absl::string_view what,
                             absl::string_view file) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
      absl::StrCat(file, ": tensor ", JsonQuote(tensor), " ", what),
      {{"file", std::string(file)}, {"tensor", std::string(tensor)}});
}

absl::StatusOr<TensorEntry> FindByteString(const SafetensorsHeader& header,
                                           absl::string_view name,
                                           absl::string_view label) {
  const TensorEntry* entry = header.Find(name);
  if (entry == nullptr || entry->dtype != DType::kU8 ||
      entry->shape.size() != 1) {
    return MalformedTensor(name, "must be there as a U8 vector", label);
  }
  return *entry;
}

absl::StatusOr<std::string> ReadTensorTable(const ByteSource& file,
                                            const TensorEntry& table,
                                            absl::string_view label) {
  const int64_t bytes = table.end - table.begin;
  if (bytes > kSafetensorsHeaderBytesMax) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
        absl::StrCat(label, ": ", table.name, " has ", bytes,
                     " bytes; at most ", kSafetensorsHeaderBytesMax,
                     " are allowed"),
        {{"file", std::string(label)}, {"tensor", table.name}});
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  CAIRN_RETURN_IF_ERROR(
      file.ReadAt(table.begin, absl::MakeSpan(&text[0], text.size())));
  return text;
}

absl::StatusOr<TensorSpec> TensorTableReader::NextTensor() {
  if (tensors_++ == kSafetensorsTensorsMax) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "LIMIT_EXCEEDED",
                         absl::StrCat(label_, ": more than ",
                                      kSafetensorsTensorsMax, " tensors"),
                         {{"file", std::string(label_)}});
  }
  TensorSpec spec;
  CAIRN_RETURN_IF_ERROR(ReadName());
  spec.name = name_;
  CAIRN_ASSIGN_OR_RETURN(absl::string_view dtype, Text("dtype"));
  auto known = ParseDType(dtype);
  if (!known.has_value()) {
    return MalformedTensor(
        name_,
        absl::StrCat("has the unknown dtype ", JsonQuote(dtype.substr(0, 40))),
        label_);
  }
  spec.dtype = *known;
  CAIRN_ASSIGN_OR_RETURN(int64_t rank, Number("rank"));
  if (rank > kRankMax) {
    return MalformedTensor(name_,
                           absl::StrCat("has ", rank, " dimensions; at most ",
                                        kRankMax, " are allowed"),
                           label_);
  }
  for (int64_t i = 0; i < rank; ++i) {
    CAIRN_ASSIGN_OR_RETURN(int64_t dimension, Number("shape"));
    spec.shape.push_back(dimension);
  }
  auto bytes = PackedBytes(spec.dtype, spec.shape);
  if (!bytes.ok()) {
    return MalformedTensor(name_, bytes.status().message(), label_);
  }
  CAIRN_RETURN_IF_ERROR(CheckReplaceable(spec.name, spec.dtype));
  return spec;
}

absl::StatusOr<int64_t> TensorTableReader::Number(absl::string_view field) {
  std::optional<uint64_t> value = ConsumeVarint(table_);
  if (!value.has_value()) return CutShort(field);
  return static_cast<int64_t>(*value);
}

absl::Status TensorTableReader::CutShort(absl::string_view field) const {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                       absl::StrCat(label_, ": ", kTensorTable,
                                    " is cut short or malformed in the ", field,
                                    " of the tensor after ", JsonQuote(name_)),
                       {{"file", std::string(label_)}});
}

absl::StatusOr<absl::string_view> TensorTableReader::Text(
    absl::string_view field) {
  CAIRN_ASSIGN_OR_RETURN(int64_t length, Number(field));
  if (static_cast<uint64_t>(length) > table_.size()) return CutShort(field);
  absl::string_view text = table_.substr(0, static_cast<size_t>(length));
  table_.remove_prefix(text.size());
  return text;
}

absl::Status TensorTableReader::ReadName() {
  CAIRN_ASSIGN_OR_RETURN(int64_t shared, Number("name"));
  if (static_cast<uint64_t>(shared) > name_.size()) return CutShort("name");
  CAIRN_ASSIGN_OR_RETURN(absl::string_view suffix, Text("name"));
  std::string name =
      absl::StrCat(name_.substr(0, static_cast<size_t>(shared)), suffix);
  const bool is_plain = name.size() <= kTableNameBytesMax && IsUtf8(name) &&
                        std::none_of(name.begin(), name.end(), [](char c) {
                          return static_cast<uint8_t>(c) < 0x20;
                        });
  if (!is_plain) return CutShort("name");
  if (name <= name_) {
    return MalformedTensor(
        name,
        absl::StrCat("does not come after ", JsonQuote(name_), " by name"),
        label_);
  }
  name_ = std::move(name);
  return absl::OkStatus();
}

void TensorTableWriter::AddTensor(const TensorSpec& tensor) {
  size_t shared = 0;
  const size_t most = std::min(last_name_.size(), tensor.name.size());
  while (shared < most && last_name_[shared] == tensor.name[shared]) ++shared;
  AppendVarint(shared, bytes_);
  AppendVarint(tensor.name.size() - shared, bytes_);
  bytes_ += tensor.name.substr(shared);
  const absl::string_view dtype = DTypeName(tensor.dtype);
  AppendVarint(dtype.size(), bytes_);
  absl::StrAppend(&bytes_, dtype);
  AppendVarint(tensor.shape.size(), bytes_);
  for (const int64_t dimension : tensor.shape) AddNumber(dimension);
  last_name_ = tensor.name;
}

void TensorTableWriter::AddNumber(int64_t number) {
  AppendVarint(static_cast<uint64_t>(number), bytes_);
}

absl::Status WriteCodedFile(
    const std::string& path, const TensorTableWriter& table,
    const std::vector<NamedStream>& streams,
    const std::map<std::string, std::string>& metadata) {
  const auto bytes = [](const char* name, int64_t size) {
    return TensorSpec{.name = name, .dtype = DType::kU8, .shape = {size}};
  };
  std::vector<TensorSpec> specs = {
      bytes(kTensorTable, static_cast<int64_t>(table.bytes().size()))};
  for (const auto& [name, stream] : streams) {
    specs.push_back(bytes(name, stream->size()));
  }
  CAIRN_ASSIGN_OR_RETURN(
      auto writer, SafetensorsWriter::Create(path, std::move(specs), metadata));
  CAIRN_RETURN_IF_ERROR(writer->Write(kTensorTable, 0, table.bytes()));
  for (const auto& [name, stream] : streams) {
    CAIRN_RETURN_IF_ERROR(stream->CopyTo(*writer, name));
  }
  return std::move(*writer).Finish();
}

}  // namespace cairn
