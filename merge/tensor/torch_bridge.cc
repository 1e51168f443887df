#include "merge/tensor/torch_bridge.h"

#include <ATen/ATen.h>

#include <new>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

std::string MessageOf(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  return torch ? torch->what_without_backtrace() : error.what();
}

}  // namespace

absl::Status TorchError(absl::string_view doing, const std::exception& error) {
  const std::string text = MessageOf(error);
  const bool is_memory =
      dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      absl::StrContains(text, "not enough memory") ||
      absl::StrContains(text, "can't allocate memory") ||
      absl::StrContains(text, "out of memory");
  const std::string message = absl::StrCat(doing, ": ", text);
  if (is_memory) return absl::ResourceExhaustedError(message);
  if (dynamic_cast<const c10::ValueError*>(&error) != nullptr) {
    return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                         message);
  }
  return absl::InternalError(message);
}

absl::StatusOr<at::ScalarType> ToScalarType(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return at::kFloat;
    case DType::kF16:
      return at::kHalf;
    case DType::kBF16:
      return at::kBFloat16;
    default:
      return ReasonedError(
          absl::StatusCode::kUnimplemented, "UNSUPPORTED",
          absl::StrCat("elements of type ", DTypeName(dtype),
                       " cannot be computed with; F32, F16 and BF16 can"));
  }
}

DType ToDType(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return DType::kF32;
    case at::kHalf:
      return DType::kF16;
    default:
      CAIRN_CHECK(type == at::kBFloat16);
      return DType::kBF16;
  }
}

absl::StatusOr<at::Tensor> ReadTensor(const ByteSource& source, DType dtype,
                                      absl::Span<const int64_t> shape) {
  CAIRN_ASSIGN_OR_RETURN(const at::ScalarType type, ToScalarType(dtype));
  CAIRN_ASSIGN_OR_RETURN(const int64_t bytes, PackedBytes(dtype, shape));
  if (bytes != source.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a tensor of shape ", ShapeText(shape), " has ", bytes,
                     " bytes; the source holds ", source.size()));
  }
  CAIRN_ASSIGN_OR_RETURN(
      at::Tensor tensor,
      CatchTorch("allocating a tensor", [&]() -> absl::StatusOr<at::Tensor> {
        return at::empty(at::IntArrayRef(shape.data(), shape.size()), type);
      }));
  CAIRN_RETURN_IF_ERROR(source.ReadAt(0, MutableTensorBytes(tensor)));
  return tensor;
}

absl::Span<const char> TensorBytes(const at::Tensor& tensor) {
  CAIRN_CHECK(tensor.is_contiguous() && tensor.device().is_cpu());
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

absl::Span<char> MutableTensorBytes(at::Tensor& tensor) {
  CAIRN_CHECK(tensor.is_contiguous() && tensor.device().is_cpu());
  return {static_cast<char*>(tensor.data_ptr()), tensor.nbytes()};
}

bool AllFinite(const at::Tensor& tensor) {
  if (!tensor.device().is_cpu()) return at::isfinite(tensor).all().item<bool>();
  const at::Tensor packed = tensor.contiguous();
  return AllFinite(ToDType(packed.scalar_type()), TensorBytes(packed));
}

std::string TensorShapeText(const at::Tensor& tensor) {
  return ShapeText({tensor.sizes().data(), tensor.sizes().size()});
}

}  // namespace cairn
