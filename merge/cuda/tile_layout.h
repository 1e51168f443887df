#ifndef CAIRN_MERGE_CUDA_TILE_LAYOUT_H_
#define CAIRN_MERGE_CUDA_TILE_LAYOUT_H_

#include <cstddef>
#include <vector>

#include "core/tensor/dtype.h"
#include "merge/cuda/tile_kernels.h"
#include "merge/engine/tile_device.h"

namespace cairn {

// Where things lie in the memory of a slot: the inputs one after the other,
// then the result, each aligned for the device.
class TileLayout {
 public:
  TileLayout() = default;
  TileLayout(const TileWork& work, size_t elements);

  size_t inputs() const { return offsets_.size() - 1; }
  size_t offset(size_t input) const { return offsets_[input]; }
  // Bytes of an element.
  size_t width(size_t input) const;
  size_t bytes(size_t input) const { return elements_ * width(input); }
  size_t out_offset() const { return offsets_.back(); }
  size_t out_width() const;
  // Of the whole slot.
  size_t size() const { return size_; }

  // The inputs of a slot that begins at `slot`, and a launch on it that still
  // lacks the formula, the inputs and the range.
  std::vector<TileInput> Inputs(char* slot) const;
  TileLaunch Launch(char* slot) const;

 private:
  size_t elements_ = 0;
  size_t size_ = 0;
  std::vector<size_t> offsets_ = {0};  // the last is the result's
  std::vector<FloatType> types_;
  FloatType work_type_ = FloatType::kF32;
  FloatType out_type_ = FloatType::kF32;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CUDA_TILE_LAYOUT_H_
