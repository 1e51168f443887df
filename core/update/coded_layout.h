#ifndef CAIRN_CORE_UPDATE_CODED_LAYOUT_H_
#define CAIRN_CORE_UPDATE_CODED_LAYOUT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/safetensors.h"
#include "core/update/change_values.h"

namespace cairn {

// The byte strings of an update whose changes are coded, beside the table;
// README.md has the layout. One that would be empty is left out.
inline constexpr char kCodedPositions[] = "cairn.positions";
inline constexpr char kCodedValues[] = "cairn.values";
inline constexpr char kCodedScales[] = "cairn.scales";
inline constexpr char kCodedFactors[] = "cairn.factors";

// What a tensor's change is the sum of, in this order. Numbers of the table.
enum class PartKind : uint8_t {
  kProduct = 1,  // of two factors
  kAll = 2,      // a value for every element
  kListed = 3,   // values of listed positions, the others 0
  kMasked = 4,   // values of the positions that the mask lists
};
inline constexpr int kPartKinds = 4;

// The coded formats by `cairn.format` and `cairn.version`. What they are for
// differs; the layout is one.
struct CodedFormat {
  const char* name;
  const char* version;
  v1::Encoding::Kind encoding;
};
inline constexpr CodedFormat kCodedFormats[] = {
    {"sparse", "2", v1::Encoding::SPARSE},
    {"ternary", "1", v1::Encoding::TERNARY},
    {"bit", "1", v1::Encoding::BIT},
    {"int8", "1", v1::Encoding::INT8},
    {"int4", "1", v1::Encoding::INT4},
    {"low-rank", "1", v1::Encoding::LOW_RANK},
};

// A tensor as rows and columns: the first dimension and all others.
struct FactorShape {
  int64_t rows = 1;
  int64_t columns = 1;
};
inline FactorShape FactorShapeOf(const std::vector<int64_t>& shape) {
  FactorShape out;
  if (!shape.empty()) out.rows = shape[0];
  for (size_t i = 1; i < shape.size(); ++i) out.columns *= shape[i];
  return out;
}

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CODED_LAYOUT_H_
