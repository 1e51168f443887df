#include "core/tensor/tensor_norm.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 18;

double SumOfSquares(absl::Span<const float> values) {
  // Independent partial sums, which the compiler can keep in vectors.
  std::array<double, 8> sums = {};
  size_t i = 0;
  for (; i + 8 <= values.size(); i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) {
      const double value = values[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0.0;
  for (double sum : sums) total += sum;
  for (; i < values.size(); ++i) {
    total += static_cast<double>(values[i]) * values[i];
  }
  return total;
}

}  // namespace

absl::StatusOr<double> FrobeniusNorm(DType dtype, const ByteSource& bytes) {
  if (!IsNumeric(dtype)) {
    return absl::UnimplementedError(
        absl::StrCat("no norm of ", DTypeName(dtype), " tensors"));
  }
  const int64_t width = DTypeBits(dtype) / 8;
  std::vector<char> tile(
      static_cast<size_t>(std::min(kTileBytes, bytes.size())));
  std::vector<float> values(tile.size() / static_cast<size_t>(width));
  double total = 0.0;
  for (int64_t offset = 0; offset < bytes.size(); offset += kTileBytes) {
    const auto length =
        static_cast<size_t>(std::min(kTileBytes, bytes.size() - offset));
    auto raw = absl::MakeSpan(tile).subspan(0, length);
    auto floats =
        absl::MakeSpan(values).subspan(0, length / static_cast<size_t>(width));
    CAIRN_RETURN_IF_ERROR(bytes.ReadAt(offset, raw));
    ToFloats(dtype, raw, floats);
    total += SumOfSquares(floats);
  }
  return std::sqrt(total);
}

absl::StatusOr<bool> IsFinite(DType dtype, const ByteSource& bytes) {
  std::vector<char> tile(
      static_cast<size_t>(std::min(kTileBytes, bytes.size())));
  for (int64_t offset = 0; offset < bytes.size(); offset += kTileBytes) {
    auto raw = absl::MakeSpan(tile).subspan(
        0, static_cast<size_t>(std::min(kTileBytes, bytes.size() - offset)));
    CAIRN_RETURN_IF_ERROR(bytes.ReadAt(offset, raw));
    if (!AllFinite(dtype, raw)) return false;
  }
  return true;
}

}  // namespace cairn
