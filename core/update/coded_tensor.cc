#include "core/update/coded_tensor.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/update/tensor_table.h"
#include "core/update/update.h"

namespace cairn {
namespace {

// One byte string of the file, taken from its front.
struct Stream {
  const char* name = "";
  int64_t begin = 0;
  int64_t at = 0;
  int64_t end = 0;

  int64_t left() const { return end - at; }
  int64_t Take(int64_t bytes) {
    at += bytes;
    return at - bytes;
  }
};

class TensorParser {
 public:
  static absl::StatusOr<std::vector<CodedTensor>> Parse(
      const SharedSource& file, const SafetensorsHeader& header,
      const PositionMask* mask) {
    CAIRN_ASSIGN_OR_RETURN(const TensorEntry table,
                           FindByteString(header, kTensorTable));
    CAIRN_ASSIGN_OR_RETURN(const std::string text,
                           ReadTensorTable(*file, table));
    TensorParser parser(file, text, mask);
    for (const TensorEntry& entry : header.tensors()) {
      if (entry.name != kTensorTable) {
        CAIRN_RETURN_IF_ERROR(parser.AddStream(header, entry.name));
      }
    }
    return parser.Run();
  }

 private:
  TensorParser(const SharedSource& file, absl::string_view table,
               const PositionMask* mask)
      : file_(file), mask_(mask), table_(table) {}

  absl::Status AddStream(const SafetensorsHeader& header,
                         const std::string& name) {
    for (Stream* stream : {&positions_, &values_, &scales_, &factors_}) {
      if (name != stream->name) continue;
      CAIRN_ASSIGN_OR_RETURN(const TensorEntry entry,
                             FindByteString(header, name));
      stream->begin = stream->at = entry.begin;
      stream->end = entry.end;
      return absl::OkStatus();
    }
    return MalformedTensor(name, "does not belong in this kind of update");
  }

  absl::StatusOr<std::vector<CodedTensor>> Run() {
    std::vector<CodedTensor> tensors;
    while (!table_.done()) {
      CodedTensor& tensor = tensors.emplace_back();
      CAIRN_ASSIGN_OR_RETURN(tensor.spec, table_.NextTensor());
      CAIRN_RETURN_IF_ERROR(ReadParts(tensor));
      if (tensor.is_replacement() != tensors[0].is_replacement()) {
        return MalformedTensor(tensor.spec.name,
                               "mixes replacement values with differences");
      }
    }
    if (tensors.empty())
      return MalformedTensor(kTensorTable, "names no tensor");
    for (const Stream* stream : {&positions_, &values_, &scales_, &factors_}) {
      if (stream->at == stream->end) continue;
      return MalformedTensor(
          stream->name,
          absl::StrCat("has ", stream->end - stream->begin,
                       " bytes, but the tensors in ", kTensorTable, " take ",
                       stream->at - stream->begin));
    }
    return tensors;
  }

  absl::Status ReadParts(CodedTensor& tensor) {
    const std::string& name = tensor.spec.name;
    if (tensor.spec.elements() == 0) {
      return MalformedTensor(name, "has no elements that could change");
    }
    CAIRN_ASSIGN_OR_RETURN(const int64_t count, table_.Number("parts"));
    if (count < 1 || count > kPartKinds) {
      return MalformedTensor(name, absl::StrCat("has ", count, " parts; 1 to ",
                                                kPartKinds, " are right"));
    }
    int64_t last_kind = 0;
    for (int64_t i = 0; i < count; ++i) {
      CAIRN_ASSIGN_OR_RETURN(const int64_t kind, table_.Number("part"));
      if (kind <= last_kind || kind > kPartKinds) {
        return MalformedTensor(
            name,
            absl::StrCat("has a part of kind ", kind, " after kind ", last_kind,
                         "; kinds ascend from 1 to ", kPartKinds));
      }
      last_kind = kind;
      CodedPart& part = tensor.parts.emplace_back();
      part.kind = static_cast<PartKind>(kind);
      CAIRN_RETURN_IF_ERROR(part.kind == PartKind::kProduct
                                ? ReadProduct(tensor.spec, part)
                                : ReadValuePart(tensor.spec, part));
      const bool is_replacement = part.values.form == ValueForm::kReplacement;
      if (is_replacement && (count > 1 || part.kind < PartKind::kListed)) {
        return MalformedTensor(
            name, "has replacement values that are not a list of their own");
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadForm(const TensorSpec& spec, CodedPart& part) {
    CAIRN_ASSIGN_OR_RETURN(const int64_t form, table_.Number("form of values"));
    if (form >= kValueForms) {
      return MalformedTensor(
          spec.name, absl::StrCat("has values of form ", form, "; there are ",
                                  kValueForms, " from 0 on"));
    }
    part.values.form = static_cast<ValueForm>(form);
    if (HasScales(part.values.form)) {
      CAIRN_ASSIGN_OR_RETURN(part.values.group,
                             table_.Number("group of a scale"));
    }
    return absl::OkStatus();
  }

  absl::Status ReadProduct(const TensorSpec& spec, CodedPart& part) {
    CAIRN_ASSIGN_OR_RETURN(part.rank, table_.Number("rank"));
    CAIRN_RETURN_IF_ERROR(ReadForm(spec, part));
    const FactorShape shape = FactorShapeOf(spec.shape);
    if (spec.shape.size() < 2 || part.rank < 1 ||
        part.rank > std::min(shape.rows, shape.columns)) {
      return MalformedTensor(spec.name,
                             absl::StrCat("of shape ", ShapeText(spec.shape),
                                          " has factors of rank ", part.rank));
    }
    const int bits = ValueBits(part.values.form);
    if (bits < 16) {
      return MalformedTensor(
          spec.name,
          absl::StrCat("has factors of form ", ValueFormName(part.values.form),
                       "; f32, f16 and bf16 are right"));
    }
    const int64_t most = factors_.left() / (bits / 8);
    if (shape.rows > most || shape.columns > most ||
        part.rank > most / (shape.rows + shape.columns)) {
      return MalformedTensor(
          spec.name, absl::StrCat("has factors of rank ", part.rank,
                                  ", more than ", kCodedFactors, " holds"));
    }
    part.values.count = part.rank * (shape.rows + shape.columns);
    part.values.values_begin = factors_.Take(part.values.value_bytes());
    return absl::OkStatus();
  }

  absl::Status ReadValuePart(const TensorSpec& spec, CodedPart& part) {
    ValueRange& values = part.values;
    values.count = spec.elements();
    int64_t position_bytes = 0;
    if (part.kind == PartKind::kMasked) {
      CAIRN_ASSIGN_OR_RETURN(part.positions, FindMasked(spec));
      values.count = part.positions->count();
    }
    if (part.kind == PartKind::kListed) {
      CAIRN_ASSIGN_OR_RETURN(values.count, table_.Number("count of changes"));
      CAIRN_ASSIGN_OR_RETURN(position_bytes,
                             table_.Number("length of positions"));
    }
    CAIRN_RETURN_IF_ERROR(ReadForm(spec, part));
    if (values.count < 1 || values.count > spec.elements()) {
      return MalformedTensor(spec.name,
                             absl::StrCat("has ", values.count, " changes but ",
                                          spec.elements(), " elements"));
    }
    // No value takes less than a bit: lengths do not overflow below.
    const bool is_short = values.count / 8 > values_.left() ||
                          ValueBytes(spec, values) > values_.left() ||
                          values.scale_count() > scales_.left() / 4 ||
                          position_bytes > positions_.left();
    if (is_short) {
      return MalformedTensor(spec.name,
                             absl::StrCat("has ", values.count,
                                          " changes, more than the file holds "
                                          "positions, values and scales for"));
    }
    values.values_begin = values_.Take(ValueBytes(spec, values));
    values.scales_begin = scales_.Take(4 * values.scale_count());
    if (part.kind == PartKind::kListed) {
      CAIRN_ASSIGN_OR_RETURN(
          PositionList list,
          PositionList::Open(file_, positions_.Take(position_bytes),
                             position_bytes, values.count, spec.elements(),
                             spec.name, kUpdateFile));
      part.positions = std::make_shared<const PositionList>(std::move(list));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const PositionList>> FindMasked(
      const TensorSpec& spec) const {
    if (mask_ == nullptr) {
      return MalformedTensor(
          spec.name,
          "has values for a mask, but __metadata__ cairn.mask "
          "names none");
    }
    const PositionMask::Tensor* masked = mask_->Find(spec.name);
    if (masked == nullptr || masked->spec.shape != spec.shape) {
      return MalformedTensor(
          spec.name,
          absl::StrCat("has values for a mask of shape ", ShapeText(spec.shape),
                       "; the mask has ",
                       masked == nullptr ? "none of that tensor"
                                         : ShapeText(masked->spec.shape)));
    }
    return masked->positions;
  }

  static int64_t ValueBytes(const TensorSpec& spec, const ValueRange& values) {
    return values.form == ValueForm::kReplacement
               ? values.count * (DTypeBits(spec.dtype) / 8)
               : values.value_bytes();
  }

  const SharedSource& file_;
  const PositionMask* const mask_;
  TensorTableReader table_;
  Stream positions_{.name = kCodedPositions};
  Stream values_{.name = kCodedValues};
  Stream scales_{.name = kCodedScales};
  Stream factors_{.name = kCodedFactors};
};

}  // namespace

absl::StatusOr<std::vector<CodedTensor>> ReadCodedTensors(
    const SharedSource& file, const SafetensorsHeader& header,
    const PositionMask* mask) {
  return TensorParser::Parse(file, header, mask);
}

}  // namespace cairn
