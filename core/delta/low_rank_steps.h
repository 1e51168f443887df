#ifndef CAIRN_CORE_DELTA_LOW_RANK_STEPS_H_
#define CAIRN_CORE_DELTA_LOW_RANK_STEPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/delta.pb.h"
#include "core/codec/plane_codec.h"
#include "core/tensor/dtype.h"

// What merges of low-rank updates did to a tensor, as factors: from these and
// the older release's tensor the newer one can be computed, where its
// difference, which is dense, would be many times as long.

namespace cairn {

// One update's part in one merge: coefficient * (scale * (left * right)).
struct LowRankTerm {
  float coefficient = 0;
  float scale = 1;
  int64_t rank = 0;
  std::vector<float> left;   // [rows, rank], row-major
  std::vector<float> right;  // [rank, columns], row-major
};

// Of one tensor of two dimensions: the terms of each merge, oldest first.
using LowRankSteps = std::vector<std::vector<LowRankTerm>>;

// Whether factors can stand for a change of a tensor: it has two dimensions
// and a numeric dtype, the terms have its shape, and all of them together have
// no more bytes than the tensor has elements (else they would not pay).
bool IsUsable(const LowRankSteps& steps, DType dtype,
              absl::Span<const int64_t> shape);

// Turns packed elements [first, ...) of the older release's tensor, which has
// `columns` columns, into what the merges made of them: for each step the sum
// of its terms in order, in float32, plus the element, rounded to the dtype;
// the arithmetic of merge/engine, bit for bit the same on every machine.
void ApplySteps(const LowRankSteps& steps, DType dtype, int64_t columns,
                int64_t first, absl::Span<char> bytes);

// Describes steps in `tensor` and returns the coded factors, which its
// description gives the lengths of.
std::string EncodeSteps(const LowRankSteps& steps, PlaneEncoder& encoder,
                        v1::DeltaTensor& tensor);

// Coded bytes of all steps of a tensor as its description has it. DATA_LOSS
// when that describes what cannot be factors of a tensor of this shape.
absl::StatusOr<int64_t> CodedStepBytes(const v1::DeltaTensor& tensor,
                                       DType dtype,
                                       absl::Span<const int64_t> shape);

// The inverse of EncodeSteps(), for a description that CodedStepBytes() found
// sound; `coded` has that many bytes. DATA_LOSS when they are damaged.
absl::StatusOr<LowRankSteps> DecodeSteps(const v1::DeltaTensor& tensor,
                                         absl::Span<const int64_t> shape,
                                         absl::string_view coded);

}  // namespace cairn

#endif  // CAIRN_CORE_DELTA_LOW_RANK_STEPS_H_
