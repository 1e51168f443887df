#include "merge/method/gram.h"

#include <algorithm>
#include <utility>

#include "merge/method/tile_math.h"

namespace cairn {

VectorLayout VectorLayout::Rows(const std::vector<int64_t>& shape) {
  if (shape.size() < 2) return Whole();
  return {.kind = Kind::kRows, .length = shape.back()};
}

VectorLayout VectorLayout::Columns(const std::vector<int64_t>& shape) {
  if (shape.size() < 2) return Whole();
  int64_t stride = 1;
  for (size_t i = 1; i < shape.size(); ++i) stride *= shape[i];
  return {.kind = Kind::kColumns, .length = stride};
}

int64_t VectorLayout::vectors(int64_t elements) const {
  if (kind == Kind::kWhole) return 1;
  if (kind == Kind::kColumns) return length;
  return length == 0 ? 0 : elements / length;
}

Gram::Gram(const MethodTask& task, VectorLayout layout,
           std::vector<size_t> members, bool less_base)
    : layout_(layout),
      members_(std::move(members)),
      base_(less_base ? task.base : std::nullopt),
      vectors_(layout.vectors(task.elements())),
      pairs_(members_.size() * (members_.size() + 1) / 2),
      sums_(static_cast<size_t>(vectors_) * pairs_, 0.0),
      strip_(base_ ? members_.size() : 0, std::vector<float>(kSumBlock)) {}

size_t Gram::PairIndex(size_t i, size_t j) const {
  if (i < j) std::swap(i, j);
  return i * (i + 1) / 2 + j;
}

double Gram::At(int64_t vector, size_t i, size_t j) const {
  return sums_[static_cast<size_t>(vector) * pairs_ + PairIndex(i, j)];
}

void Gram::Observe(const InputTile& tile) {
  std::vector<const float*> values(members_.size());
  for (size_t begin = 0; begin < tile.count;) {
    // A strip is a block of sums that ends with its row.
    const auto position = static_cast<size_t>(tile.first) + begin;
    size_t count = std::min(kSumBlock, tile.count - begin);
    size_t vector = 0;
    if (layout_.kind == VectorLayout::Kind::kRows) {
      const auto length = static_cast<size_t>(layout_.length);
      vector = position / length;
      count = std::min(count, length - position % length);
    }
    for (size_t m = 0; m < members_.size(); ++m) {
      values[m] = tile.inputs[members_[m]] + begin;
      if (!base_) continue;
      Subtract(values[m], tile.inputs[*base_] + begin, strip_[m].data(), count);
      values[m] = strip_[m].data();
    }
    for (size_t i = 0; i < members_.size(); ++i) {
      for (size_t j = 0; j <= i; ++j) {
        if (layout_.kind != VectorLayout::Kind::kColumns) {
          AddDot(values[i], values[j], count,
                 sums_[vector * pairs_ + PairIndex(i, j)]);
          continue;
        }
        for (size_t k = 0; k < count; ++k) {
          const size_t column =
              (position + k) % static_cast<size_t>(layout_.length);
          sums_[column * pairs_ + PairIndex(i, j)] +=
              static_cast<double>(values[i][k]) *
              static_cast<double>(values[j][k]);
        }
      }
    }
    begin += count;
  }
}

}  // namespace cairn
