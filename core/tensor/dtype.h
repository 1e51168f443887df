#ifndef CAIRN_CORE_TENSOR_DTYPE_H_
#define CAIRN_CORE_TENSOR_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// The element types that a safetensors file may name.
enum class DType : uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

// The name in a safetensors header, e.g. "BF16".
absl::string_view DTypeName(DType dtype);
std::optional<DType> ParseDType(absl::string_view name);

// Bits of one element: 4, 6, 8, 16, 32 or 64.
int DTypeBits(DType dtype);

// True for F32, F16 and BF16: what can be read and written as numbers.
bool IsNumeric(DType dtype);

// Bytes of a packed tensor. INVALID_ARGUMENT when a dimension is negative,
// the product overflows, or the bits are not whole bytes.
absl::StatusOr<int64_t> PackedBytes(DType dtype,
                                    absl::Span<const int64_t> shape);

// Converts little-endian elements of a numeric dtype to float, exactly.
// `bytes` holds out.size() elements and need not be aligned.
void ToFloats(DType dtype, absl::Span<const char> bytes, absl::Span<float> out);

// The inverse, rounding to nearest, ties to even; what is too large becomes
// infinity and NaN stays NaN.
void FromFloats(DType dtype, absl::Span<const float> in,
                absl::Span<char> bytes);

// Rounds to what a numeric dtype can hold.
void RoundTo(DType dtype, absl::Span<float> values);

// True when no element of a floating-point dtype is NaN or infinite; always
// true for integers. `bytes` holds whole elements.
bool AllFinite(DType dtype, absl::Span<const char> bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_DTYPE_H_
