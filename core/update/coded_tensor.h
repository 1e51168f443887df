#ifndef CAIRN_CORE_UPDATE_CODED_TENSOR_H_
#define CAIRN_CORE_UPDATE_CODED_TENSOR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/change_values.h"
#include "core/update/coded_layout.h"
#include "core/update/position_list.h"
#include "core/update/position_mask.h"

namespace cairn {

// One part of a tensor's change and where it stands in the file.
struct CodedPart {
  PartKind kind = PartKind::kAll;
  // Of kProduct: the form and place of both factors, one after the other.
  ValueRange values;
  int64_t rank = 0;  // kProduct
  // kListed and kMasked; shared with the mask.
  std::shared_ptr<const PositionList> positions;
};

struct CodedTensor {
  TensorSpec spec;
  std::vector<CodedPart> parts;

  bool is_replacement() const {
    return parts[0].values.form == ValueForm::kReplacement;
  }
};

// Reads the table of a coded update and finds every part of it, in `mask` (may
// be null) what is masked: INVALID_ARGUMENT with reason MALFORMED_FILE,
// UNSUPPORTED or LIMIT_EXCEEDED naming the tensor.
absl::StatusOr<std::vector<CodedTensor>> ReadCodedTensors(
    const SharedSource& file, const SafetensorsHeader& header,
    const PositionMask* mask);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CODED_TENSOR_H_
