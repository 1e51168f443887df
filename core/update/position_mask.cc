#include "core/update/position_mask.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/update/coded_layout.h"
#include "core/update/update.h"

namespace cairn {

absl::StatusOr<PositionMask> PositionMask::Open(SharedSource file) {
  CAIRN_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                         SafetensorsHeader::Read(*file, kMaskFile));
  const auto is = [&](const char* key, const char* value) {
    const auto found = header.metadata().find(key);
    return found != header.metadata().end() && found->second == value;
  };
  if (!is("cairn.format", "mask") || !is("cairn.version", "1")) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "UNKNOWN_FORMAT",
        absl::StrCat(kMaskFile,
                     ": __metadata__ must have cairn.format \"mask\" "
                     "and cairn.version \"1\""),
        {{"file", kMaskFile}});
  }
  CAIRN_ASSIGN_OR_RETURN(const TensorEntry table,
                         FindByteString(header, kTensorTable, kMaskFile));
  CAIRN_ASSIGN_OR_RETURN(const TensorEntry positions,
                         FindByteString(header, kCodedPositions, kMaskFile));
  if (header.tensors().size() != 2) {
    return MalformedTensor(kTensorTable, "has company that does not belong",
                           kMaskFile);
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string text,
                         ReadTensorTable(*file, table, kMaskFile));
  TensorTableReader reader(text, kMaskFile);
  PositionMask mask;
  int64_t at = positions.begin;
  while (!reader.done()) {
    Tensor& tensor = mask.tensors_.emplace_back();
    CAIRN_ASSIGN_OR_RETURN(tensor.spec, reader.NextTensor());
    CAIRN_ASSIGN_OR_RETURN(const int64_t count,
                           reader.Number("count of positions"));
    CAIRN_ASSIGN_OR_RETURN(const int64_t bytes,
                           reader.Number("length of positions"));
    if (count < 1 || count > tensor.spec.elements() ||
        bytes > positions.end - at) {
      return MalformedTensor(
          tensor.spec.name,
          absl::StrCat("lists ", count, " of ", tensor.spec.elements(),
                       " elements in ", bytes, " bytes, of which ",
                       kCodedPositions, " has ", positions.end - at),
          kMaskFile);
    }
    CAIRN_ASSIGN_OR_RETURN(
        PositionList list,
        PositionList::Open(file, at, bytes, count, tensor.spec.elements(),
                           tensor.spec.name, kMaskFile));
    tensor.positions = std::make_shared<const PositionList>(std::move(list));
    at += bytes;
  }
  if (at != positions.end || mask.tensors_.empty()) {
    return MalformedTensor(
        kCodedPositions,
        absl::StrCat("has ", positions.end - positions.begin,
                     " bytes, but the tensors in ", kTensorTable, " take ",
                     at - positions.begin),
        kMaskFile);
  }
  return mask;
}

const PositionMask::Tensor* PositionMask::Find(absl::string_view name) const {
  const auto found =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const Tensor& tensor, absl::string_view key) {
                         return absl::string_view(tensor.spec.name) < key;
                       });
  return found == tensors_.end() || found->spec.name != name ? nullptr
                                                             : &*found;
}

absl::StatusOr<std::unique_ptr<PositionMaskWriter>> PositionMaskWriter::Create(
    std::string path) {
  std::unique_ptr<PositionMaskWriter> writer(
      new PositionMaskWriter(std::move(path)));
  CAIRN_ASSIGN_OR_RETURN(writer->positions_,
                         ScratchFile::Create(writer->path_ + ".positions"));
  return writer;
}

absl::Status PositionMaskWriter::BeginTensor(const TensorSpec& tensor) {
  if (tensor.name.empty() || tensor.name <= table_.last_name() ||
      tensor.name <= tensor_.name) {
    return absl::InvalidArgumentError(
        absl::StrCat("tensor ", JsonQuote(tensor.name), " must come after ",
                     JsonQuote(tensor_.name)));
  }
  CAIRN_RETURN_IF_ERROR(EndTensor());
  tensor_ = tensor;
  begin_ = positions_->size();
  list_.emplace(tensor.elements(), *positions_);
  return absl::OkStatus();
}

absl::Status PositionMaskWriter::Add(absl::Span<const int64_t> positions) {
  if (!list_.has_value()) {
    return absl::InvalidArgumentError("no tensor of the mask is begun");
  }
  return list_->Add(positions);
}

absl::Status PositionMaskWriter::EndTensor() {
  if (!list_.has_value()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(list_->Flush());
  if (list_->count() > 0) {
    table_.AddTensor(tensor_);
    table_.AddNumber(list_->count());
    table_.AddNumber(positions_->size() - begin_);
  }
  list_.reset();
  return absl::OkStatus();
}

absl::Status PositionMaskWriter::Finish() && {
  CAIRN_RETURN_IF_ERROR(EndTensor());
  if (table_.bytes().empty()) {
    return absl::FailedPreconditionError("nothing is listed");
  }
  return WriteCodedFile(path_, table_, {{kCodedPositions, positions_.get()}},
                        {{"cairn.format", "mask"}, {"cairn.version", "1"}});
}

}  // namespace cairn
