#include "core/update/coded_update_writer.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

absl::Status Wrong(const TensorSpec& tensor, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", JsonQuote(tensor.name), ": ", what));
}

}  // namespace

absl::StatusOr<std::unique_ptr<CodedUpdateWriter>> CodedUpdateWriter::Create(
    std::string path, std::string base_digest, const CodedFormat& format,
    std::string mask_digest) {
  std::unique_ptr<CodedUpdateWriter> writer(new CodedUpdateWriter(
      std::move(path), std::move(base_digest), format, std::move(mask_digest)));
  const std::string& name = writer->path_;
  CAIRN_ASSIGN_OR_RETURN(writer->positions_,
                         ScratchFile::Create(name + ".positions"));
  CAIRN_ASSIGN_OR_RETURN(writer->values_,
                         ScratchFile::Create(name + ".values"));
  CAIRN_ASSIGN_OR_RETURN(writer->scales_,
                         ScratchFile::Create(name + ".scales"));
  CAIRN_ASSIGN_OR_RETURN(writer->factors_,
                         ScratchFile::Create(name + ".factors"));
  return writer;
}

absl::Status CodedUpdateWriter::BeginTensor(const TensorSpec& tensor) {
  if (!IsNumeric(tensor.dtype)) {
    return absl::UnimplementedError(
        absl::StrCat("tensor ", JsonQuote(tensor.name), ": changes of ",
                     DTypeName(tensor.dtype), " cannot be coded"));
  }
  if (tensor.name.empty() || tensor.name <= table_.last_name() ||
      tensor.name <= tensor_.name) {
    return Wrong(tensor,
                 absl::StrCat("must come after ", JsonQuote(tensor_.name)));
  }
  CAIRN_RETURN_IF_ERROR(EndTensor());
  tensor_ = tensor;
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::AddProduct(int64_t rank, ValueForm form,
                                           absl::Span<const float> left,
                                           absl::Span<const float> right) {
  const FactorShape shape = FactorShapeOf(tensor_.shape);
  if (rank < 1 || static_cast<int64_t>(left.size()) != rank * shape.rows ||
      static_cast<int64_t>(right.size()) != rank * shape.columns ||
      parts_ > 0) {
    return Wrong(tensor_, absl::StrCat("factors of rank ", rank,
                                       " do not fit, or do not come first"));
  }
  ValuePacker packer(form, 0);
  for (const absl::Span<const float> factor : {left, right}) {
    std::string packed, no_scales;
    packer.Add(factor, packed, no_scales);
    CAIRN_RETURN_IF_ERROR(factors_->Append(packed));
  }
  ++parts_;
  numbers_.insert(numbers_.end(), {static_cast<int64_t>(PartKind::kProduct),
                                   rank, static_cast<int64_t>(form)});
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::BeginAll(const PartValues& values) {
  return BeginPart(PartKind::kAll, values);
}

absl::Status CodedUpdateWriter::BeginListed(const PartValues& values) {
  return BeginPart(PartKind::kListed, values);
}

absl::Status CodedUpdateWriter::BeginMasked(int64_t count,
                                            const PartValues& values) {
  if (mask_digest_.empty()) {
    return Wrong(tensor_, "has no mask: the update names none");
  }
  CAIRN_RETURN_IF_ERROR(BeginPart(PartKind::kMasked, values));
  masked_ = count;
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::BeginPart(PartKind kind,
                                          const PartValues& values) {
  if (tensor_.name.empty() || (part_.has_value() && *part_ >= kind)) {
    return Wrong(tensor_, "parts begin in their order, after their tensor");
  }
  CAIRN_RETURN_IF_ERROR(EndPart());
  part_ = kind;
  part_values_ = values;
  packer_.reset();
  if (values.form != ValueForm::kReplacement) {
    packer_.emplace(values.form, values.group, values.scale);
  }
  added_ = 0;
  list_.reset();
  if (kind == PartKind::kListed) {
    list_.emplace(tensor_.elements(), *positions_);
    positions_begin_ = positions_->size();
  }
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::AddPositions(
    absl::Span<const int64_t> positions) {
  if (!list_.has_value()) return Wrong(tensor_, "has no list begun");
  return Annotate(list_->Add(positions),
                  absl::StrCat("tensor ", JsonQuote(tensor_.name)));
}

absl::Status CodedUpdateWriter::AddValues(absl::Span<const float> values) {
  if (!packer_.has_value()) return Wrong(tensor_, "takes no numbers here");
  packer_->Add(values, packed_, scale_bytes_);
  added_ += static_cast<int64_t>(values.size());
  return FlushValues();
}

absl::Status CodedUpdateWriter::AddBytes(absl::Span<const char> values) {
  const auto width = static_cast<size_t>(DTypeBits(tensor_.dtype) / 8);
  if (!part_.has_value() || packer_.has_value() || values.size() % width != 0) {
    return Wrong(tensor_, "takes no such bytes here");
  }
  added_ += static_cast<int64_t>(values.size() / width);
  return values_->Append(absl::string_view(values.data(), values.size()));
}

absl::Status CodedUpdateWriter::FlushValues() {
  CAIRN_RETURN_IF_ERROR(values_->Append(packed_));
  CAIRN_RETURN_IF_ERROR(scales_->Append(scale_bytes_));
  packed_.clear();
  scale_bytes_.clear();
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::EndPart() {
  if (!part_.has_value()) return absl::OkStatus();
  const PartKind kind = *part_;
  const int64_t wanted = kind == PartKind::kAll      ? tensor_.elements()
                         : kind == PartKind::kMasked ? masked_
                                                     : list_->count();
  if (added_ != wanted) {
    return Wrong(tensor_, absl::StrCat("has ", added_, " values for ", wanted,
                                       " elements"));
  }
  if (wanted == 0) return absl::OkStatus();
  if (list_.has_value()) CAIRN_RETURN_IF_ERROR(list_->Flush());
  if (packer_.has_value()) {
    packer_->Finish(packed_, scale_bytes_);
    CAIRN_RETURN_IF_ERROR(FlushValues());
  }
  ++parts_;
  numbers_.push_back(static_cast<int64_t>(kind));
  if (kind == PartKind::kListed) {
    numbers_.push_back(list_->count());
    numbers_.push_back(positions_->size() - positions_begin_);
  }
  numbers_.push_back(static_cast<int64_t>(part_values_.form));
  if (HasScales(part_values_.form)) numbers_.push_back(part_values_.group);
  return absl::OkStatus();
}

absl::Status CodedUpdateWriter::EndTensor() {
  CAIRN_RETURN_IF_ERROR(EndPart());
  AddToTable(*this);
  return absl::OkStatus();
}

void CodedUpdateWriter::AddToTable(CodedUpdateWriter& part) {
  if (part.parts_ > 0) {
    table_.AddTensor(part.tensor_);
    table_.AddNumber(part.parts_);
    for (const int64_t number : part.numbers_) table_.AddNumber(number);
  }
  part.part_.reset();
  part.parts_ = 0;
  part.numbers_.clear();
}

absl::Status CodedUpdateWriter::Take(CodedUpdateWriter& part) {
  CAIRN_RETURN_IF_ERROR(EndTensor());
  CAIRN_RETURN_IF_ERROR(part.EndPart());
  if (part.parts_ > 0 && part.tensor_.name <= table_.last_name()) {
    return Wrong(part.tensor_, absl::StrCat("must come after ",
                                            JsonQuote(table_.last_name())));
  }
  AddToTable(part);
  part.tensor_ = {};
  CAIRN_RETURN_IF_ERROR(part.positions_->MoveTo(*positions_));
  CAIRN_RETURN_IF_ERROR(part.values_->MoveTo(*values_));
  CAIRN_RETURN_IF_ERROR(part.scales_->MoveTo(*scales_));
  return part.factors_->MoveTo(*factors_);
}

absl::Status CodedUpdateWriter::Finish() && {
  CAIRN_RETURN_IF_ERROR(EndTensor());
  if (table_.bytes().empty()) {
    return absl::FailedPreconditionError("nothing is changed");
  }
  return WriteFile();
}

absl::Status CodedUpdateWriter::WriteFile() {
  std::vector<NamedStream> streams;
  for (const NamedStream& stream :
       {NamedStream{kCodedPositions, positions_.get()},
        NamedStream{kCodedValues, values_.get()},
        NamedStream{kCodedScales, scales_.get()},
        NamedStream{kCodedFactors, factors_.get()}}) {
    if (stream.second->size() > 0) streams.push_back(stream);
  }
  std::map<std::string, std::string> metadata = {
      {"cairn.format", format_.name},
      {"cairn.version", format_.version},
      {"cairn.base", base_digest_}};
  if (!mask_digest_.empty()) metadata["cairn.mask"] = mask_digest_;
  return WriteCodedFile(path_, table_, streams, metadata);
}

}  // namespace cairn
