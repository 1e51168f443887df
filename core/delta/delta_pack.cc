#include "core/delta/delta_pack.h"

#include <cstring>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/delta/delta_pack_form.h"

namespace cairn {
namespace {

absl::Status Broken(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("delta: ", what));
}

uint64_t ReadNumber(const char* bytes, int count) {
  uint64_t number = 0;
  for (int i = 0; i < count; ++i) {
    number |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  }
  return number;
}

}  // namespace

ElementForm FormOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return {.width = 8, .exponent_bits = 11};
    case DType::kF32:
    case DType::kC64:
      return {.width = 4, .exponent_bits = 8};
    case DType::kBF16:
      return {.width = 2, .exponent_bits = 8};
    case DType::kF16:
      return {.width = 2, .exponent_bits = 5};
    case DType::kF8E5M2:
    case DType::kF8E5M2FNUZ:
      return {.width = 1, .exponent_bits = 5};
    case DType::kF8E4M3:
    case DType::kF8E4M3FNUZ:
      return {.width = 1, .exponent_bits = 4};
    case DType::kI64:
    case DType::kU64:
      return {.width = 8, .exponent_bits = 0};
    case DType::kI32:
    case DType::kU32:
      return {.width = 4, .exponent_bits = 0};
    case DType::kI16:
    case DType::kU16:
      return {.width = 2, .exponent_bits = 0};
    default:
      return {.width = 1, .exponent_bits = 0};
  }
}

absl::StatusOr<DeltaPack> DeltaPack::Open(SharedSource file) {
  const int64_t size = file->size();
  const auto magic = static_cast<int64_t>(kDeltaMagic.size());
  if (size < 2 * magic + kDeltaTailBytes) {
    return Broken(absl::StrCat(size, " bytes are too few"));
  }
  std::string head(kDeltaMagic.size(), '\0');
  std::string tail(static_cast<size_t>(kDeltaTailBytes + magic), '\0');
  CAIRN_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(head)));
  const int64_t tail_begin = size - static_cast<int64_t>(tail.size());
  CAIRN_RETURN_IF_ERROR(file->ReadAt(tail_begin, absl::MakeSpan(tail)));
  if (head != kDeltaMagic || tail.substr(kDeltaTailBytes) != kDeltaMagic) {
    return Broken("does not begin and end as one does");
  }
  const auto index_bytes = static_cast<int64_t>(ReadNumber(tail.data(), 8));
  if (index_bytes < 0 || index_bytes > kDeltaIndexBytesMax ||
      index_bytes > tail_begin - magic) {
    return Broken(absl::StrCat("an index of ", index_bytes,
                               " bytes does not fit a file of ", size));
  }
  std::string bytes(static_cast<size_t>(index_bytes), '\0');
  const int64_t index_begin = tail_begin - index_bytes;
  CAIRN_RETURN_IF_ERROR(file->ReadAt(index_begin, absl::MakeSpan(bytes)));
  DeltaPack pack;
  pack.file_ = std::move(file);
  if (!pack.index_.ParseFromString(bytes)) {
    return Broken("its index cannot be parsed");
  }
  CAIRN_RETURN_IF_ERROR(pack.IndexFiles());
  CAIRN_RETURN_IF_ERROR(pack.IndexTensors(index_begin));
  return pack;
}

absl::Status DeltaPack::IndexFiles() {
  for (int i = 0; i < index_.files_size(); ++i) {
    const v1::DeltaFile& file = index_.files(i);
    auto header =
        SafetensorsHeader::Parse(file.header(), file.size_bytes(), file.path());
    if (!header.ok()) return Broken(header.status().message());
    if (!files_.emplace(file.path(), i).second) {
      return Broken(absl::StrCat("has ", file.path(), " twice"));
    }
    headers_.emplace(file.path(), *std::move(header));
  }
  return absl::OkStatus();
}

absl::Status DeltaPack::IndexTensors(int64_t end) {
  absl::flat_hash_map<std::string, const TensorEntry*> entries;
  for (const auto& [path, header] : headers_) {
    for (const TensorEntry& entry : header.tensors()) {
      if (!entries.emplace(entry.name, &entry).second) {
        return Broken(
            absl::StrCat("tensor ", entry.name, " is in two of its files"));
      }
    }
  }
  auto at = static_cast<int64_t>(kDeltaMagic.size());
  for (int i = 0; i < index_.tensors_size(); ++i) {
    const v1::DeltaTensor& tensor = index_.tensors(i);
    const auto entry = entries.find(tensor.name());
    if (entry == entries.end() ||
        tensor.piece_bytes_size() !=
            DeltaPieces(entry->second->end - entry->second->begin)) {
      return Broken(absl::StrCat("tensor ", tensor.name(), " with ",
                                 tensor.piece_bytes_size(),
                                 " pieces fits none of the files"));
    }
    Place place{.entry = i, .shape = entry->second->shape};
    CAIRN_ASSIGN_OR_RETURN(
        place.steps_bytes,
        CodedStepBytes(tensor, entry->second->dtype, place.shape));
    if (place.steps_bytes > end - at) {
      return Broken(absl::StrCat("the factors of tensor ", tensor.name(),
                                 " pass the end"));
    }
    place.steps_begin = at;
    at += place.steps_bytes;
    for (const int64_t bytes : tensor.piece_bytes()) {
      if (bytes < 0 || bytes > DeltaPieceCodedBytesMax() || bytes > end - at) {
        return Broken(absl::StrCat("a piece of ", bytes, " bytes of tensor ",
                                   tensor.name(), " passes the end"));
      }
      place.piece_begins.push_back(at);
      at += bytes;
    }
    if (!tensors_.emplace(tensor.name(), std::move(place)).second) {
      return Broken(absl::StrCat("has tensor ", tensor.name(), " twice"));
    }
  }
  if (at != end) {
    return Broken(absl::StrCat("its tensors end at ", at,
                               " and its index begins at ", end));
  }
  return absl::OkStatus();
}

const SafetensorsHeader* DeltaPack::FindHeader(absl::string_view path) const {
  const auto found = headers_.find(path);
  return found == headers_.end() ? nullptr : &found->second;
}

int64_t DeltaPack::FileSize(absl::string_view path) const {
  return index_.files(files_.find(path)->second).size_bytes();
}

const std::string& DeltaPack::HeaderBytes(absl::string_view path) const {
  return index_.files(files_.find(path)->second).header();
}

const v1::DeltaTensor* DeltaPack::Find(absl::string_view tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? nullptr
                                 : &index_.tensors(found->second.entry);
}

absl::StatusOr<LowRankSteps> DeltaPack::ReadSteps(
    const v1::DeltaTensor& tensor) const {
  if (tensor.steps().empty()) return LowRankSteps();
  const Place& place = tensors_.find(tensor.name())->second;
  std::string coded(static_cast<size_t>(place.steps_bytes), '\0');
  CAIRN_RETURN_IF_ERROR(
      file_->ReadAt(place.steps_begin, absl::MakeSpan(coded)));
  return DecodeSteps(tensor, place.shape, coded);
}

absl::Status DeltaPack::DecodePiece(const v1::DeltaTensor& tensor,
                                    int64_t piece, DType dtype,
                                    absl::Span<const char> base,
                                    absl::Span<char> out, DeltaDecoder& decoder,
                                    std::string& coded) const {
  const auto number = static_cast<size_t>(piece);
  const Place& place = tensors_.find(tensor.name())->second;
  CAIRN_CHECK(number < place.piece_begins.size() && base.size() == out.size() &&
              static_cast<int64_t>(out.size()) <= kDeltaPieceBytes);
  coded.resize(
      static_cast<size_t>(tensor.piece_bytes(static_cast<int>(number))));
  if (coded.empty()) {
    std::memcpy(out.data(), base.data(), base.size());
    return absl::OkStatus();
  }
  CAIRN_RETURN_IF_ERROR(
      file_->ReadAt(place.piece_begins[number], absl::MakeSpan(coded)));
  const ElementForm form = FormOf(dtype);
  absl::string_view rest = coded;
  for (size_t at = 0; at < out.size(); at += kDeltaBlockBytesMax) {
    const size_t bytes = std::min(kDeltaBlockBytesMax, out.size() - at);
    if (rest.size() < 4) return Broken("a piece ends within a block's length");
    const uint64_t length = ReadNumber(rest.data(), 4);
    rest.remove_prefix(4);
    if (length > rest.size() || bytes % static_cast<size_t>(form.width) != 0) {
      return Broken("a block passes its piece");
    }
    CAIRN_RETURN_IF_ERROR(decoder.Decode(rest.substr(0, length),
                                         base.subspan(at, bytes), form,
                                         out.subspan(at, bytes)));
    rest.remove_prefix(length);
  }
  if (!rest.empty()) return Broken("a piece goes on after its blocks");
  return absl::OkStatus();
}

}  // namespace cairn
