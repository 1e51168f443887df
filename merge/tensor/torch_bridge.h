#ifndef CAIRN_MERGE_TENSOR_TORCH_BRIDGE_H_
#define CAIRN_MERGE_TENSOR_TORCH_BRIDGE_H_

#include <ATen/core/Tensor.h>

#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/dtype.h"

namespace cairn {

// What an exception of libtorch means: RESOURCE_EXHAUSTED when memory ran out,
// UNSUPPORTED for a value that does not fit (c10::ValueError), else INTERNAL.
// The message starts with `doing` and has no backtrace.
absl::Status TorchError(absl::string_view doing, const std::exception& error);

// Runs `work`, which returns a Status or StatusOr, and turns what libtorch
// throws into a Status. The only place where its exceptions are caught.
template <typename Work>
auto CatchTorch(absl::string_view doing, Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const std::exception& error) {
    return TorchError(doing, error);
  }
}

// libtorch's type for F32, F16 and BF16; UNSUPPORTED for all others.
absl::StatusOr<at::ScalarType> ToScalarType(DType dtype);

// The inverse. `type` is one that ToScalarType gives.
DType ToDType(at::ScalarType type);

// A CPU tensor of `dtype` that holds the bytes of `source`, which is packed.
absl::StatusOr<at::Tensor> ReadTensor(const ByteSource& source, DType dtype,
                                      absl::Span<const int64_t> shape);

// The bytes of a contiguous CPU tensor. Valid while the tensor lives.
absl::Span<const char> TensorBytes(const at::Tensor& tensor);
absl::Span<char> MutableTensorBytes(at::Tensor& tensor);

// True when no element of a tensor of F32, F16 or BF16 is NaN or infinite.
bool AllFinite(const at::Tensor& tensor);

// "[4, 16]"
std::string TensorShapeText(const at::Tensor& tensor);

}  // namespace cairn

#endif  // CAIRN_MERGE_TENSOR_TORCH_BRIDGE_H_
