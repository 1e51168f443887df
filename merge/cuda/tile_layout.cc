#include "merge/cuda/tile_layout.h"

#include "core/base/log.h"

namespace cairn {
namespace {

constexpr size_t kAlignment = 256;

FloatType FloatTypeOf(DType dtype) {
  CAIRN_CHECK(IsNumeric(dtype));
  if (dtype == DType::kF32) return FloatType::kF32;
  return dtype == DType::kF16 ? FloatType::kF16 : FloatType::kBF16;
}

size_t WidthOf(FloatType type) { return type == FloatType::kF32 ? 4 : 2; }

size_t Aligned(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

TileLayout::TileLayout(const TileWork& work, size_t elements)
    : elements_(elements),
      work_type_(FloatTypeOf(work.work_dtype)),
      out_type_(FloatTypeOf(work.dtype)) {
  for (DType dtype : work.inputs) {
    types_.push_back(FloatTypeOf(dtype));
    offsets_.push_back(offsets_.back() +
                       Aligned(elements * WidthOf(types_.back())));
  }
  size_ = out_offset() + Aligned(elements * out_width());
}

size_t TileLayout::width(size_t input) const { return WidthOf(types_[input]); }

size_t TileLayout::out_width() const { return WidthOf(out_type_); }

std::vector<TileInput> TileLayout::Inputs(char* slot) const {
  std::vector<TileInput> table;
  for (size_t i = 0; i < inputs(); ++i) {
    table.push_back({.values = slot + offset(i), .type = types_[i]});
  }
  return table;
}

TileLaunch TileLayout::Launch(char* slot) const {
  TileLaunch launch;
  launch.out = slot + out_offset();
  launch.work_type = work_type_;
  launch.type = out_type_;
  return launch;
}

}  // namespace cairn
