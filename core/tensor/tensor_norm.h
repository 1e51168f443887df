#ifndef CAIRN_CORE_TENSOR_TENSOR_NORM_H_
#define CAIRN_CORE_TENSOR_TENSOR_NORM_H_

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/dtype.h"

namespace cairn {

// Frobenius norm of a numeric tensor, from its packed bytes; summed in double.
// Infinite or NaN when an element is. UNIMPLEMENTED for other dtypes.
absl::StatusOr<double> FrobeniusNorm(DType dtype, const ByteSource& bytes);

// True when AllFinite() holds for the whole tensor.
absl::StatusOr<bool> IsFinite(DType dtype, const ByteSource& bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_TENSOR_NORM_H_
