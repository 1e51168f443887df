#include "core/update/replacement_update.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_norm.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 16;

int64_t Elements(const TouchedTensor& tensor) {
  int64_t count = 1;
  for (int64_t dimension : tensor.shape) count *= dimension;
  return count;
}

int64_t Width(const TouchedTensor& tensor) {
  return DTypeBits(*tensor.dtype) / 8;
}

absl::Status NotTouched(absl::string_view tensor) {
  return absl::NotFoundError(
      absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
}

absl::Status CheckBase(const TouchedTensor& tensor, const ByteSource& base) {
  const int64_t bytes = Elements(tensor) * Width(tensor);
  if (base.size() == bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("tensor ", JsonQuote(tensor.name), " has ", base.size(),
                   " bytes in the base; ", bytes, " are expected"));
}

}  // namespace

absl::Status CheckReplaceable(absl::string_view tensor, DType dtype) {
  if (IsNumeric(dtype)) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
      absl::StrCat("tensor ", JsonQuote(tensor), " is ", DTypeName(dtype),
                   "; only changes of F32, F16 and BF16 tensors can be merged"),
      {{"tensor", std::string(tensor)}});
}

absl::Status ReplacementUpdate::CheckFinite() const {
  for (size_t i = 0; i < touched_.size(); ++i) {
    const Range range = ValuesOf(i);
    auto values = MakeSliceSource(file_, range.begin, range.size);
    CAIRN_ASSIGN_OR_RETURN(bool finite, IsFinite(*touched_[i].dtype, *values));
    if (finite) continue;
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat(kUpdateFile, ": the values for tensor ",
                     JsonQuote(touched_[i].name), " hold a NaN or an infinity"),
        {{"file", kUpdateFile}, {"tensor", touched_[i].name}});
  }
  return absl::OkStatus();
}

absl::StatusOr<double> ReplacementUpdate::DeltaNorm(
    absl::string_view tensor, const ByteSource& base) const {
  const TouchedTensor* touched = Find(tensor);
  if (touched == nullptr) return NotTouched(tensor);
  const DType dtype = *touched->dtype;
  const int64_t elements = Elements(*touched);
  const int64_t width = Width(*touched);
  CAIRN_RETURN_IF_ERROR(CheckBase(*touched, base));
  const auto tile = static_cast<size_t>(std::min(kTileElements, elements));
  std::vector<char> raw(tile * static_cast<size_t>(width));
  std::vector<float> before(tile);
  std::vector<float> after(tile);
  double total = 0.0;
  for (int64_t first = 0; first < elements; first += kTileElements) {
    const auto count =
        static_cast<size_t>(std::min(kTileElements, elements - first));
    auto bytes =
        absl::MakeSpan(raw).subspan(0, count * static_cast<size_t>(width));
    CAIRN_RETURN_IF_ERROR(base.ReadAt(first * width, bytes));
    ToFloats(dtype, bytes, absl::MakeSpan(before).subspan(0, count));
    CAIRN_RETURN_IF_ERROR(ReadTuned(tensor, base, first, bytes));
    ToFloats(dtype, bytes, absl::MakeSpan(after).subspan(0, count));
    for (size_t i = 0; i < count; ++i) {
      const double tau = static_cast<double>(after[i]) - before[i];
      total += tau * tau;
    }
  }
  return std::sqrt(total);
}

absl::Status ReplacementUpdate::ReadTuned(absl::string_view tensor,
                                          const ByteSource& base, int64_t first,
                                          absl::Span<char> bytes) const {
  const TouchedTensor* touched = Find(tensor);
  if (touched == nullptr) return NotTouched(tensor);
  const auto width = static_cast<size_t>(Width(*touched));
  const auto count = static_cast<int64_t>(bytes.size() / width);
  const int64_t elements = Elements(*touched);
  if (bytes.size() % width != 0 || first < 0 || first > elements ||
      count > elements - first) {
    return absl::OutOfRangeError(
        absl::StrCat("tensor ", JsonQuote(tensor), " has ", elements,
                     " elements of ", width, " bytes; ", bytes.size(),
                     " bytes from element ", first, " on are not among them"));
  }
  CAIRN_RETURN_IF_ERROR(CheckBase(*touched, base));
  return ReadRange(static_cast<size_t>(touched - touched_.data()), base, first,
                   bytes);
}

}  // namespace cairn
