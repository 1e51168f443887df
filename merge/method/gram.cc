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
      sums_(static_cast<size_t>(vectors_) * pairs_, 0.0) {}

size_t Gram::PairIndex(size_t i, size_t j) const {
  if (i < j) std::swap(i, j);
  return i * (i + 1) / 2 + j;
}

double Gram::At(int64_t vector, size_t i, size_t j) const {
  return sums_[static_cast<size_t>(vector) * pairs_ + PairIndex(i, j)];
}

void Gram::AddColumns(const std::vector<const float*>& values,
                      const float* base, size_t position, size_t count) {
  for (size_t k = 0; k < count; ++k) {
    const size_t column = (position + k) % static_cast<size_t>(layout_.length);
    const auto value = [&](size_t m) {
      return static_cast<double>(base == nullptr ? values[m][k]
                                                 : values[m][k] - base[k]);
    };
    double* sum = &sums_[column * pairs_];
    for (size_t i = 0; i < values.size(); ++i) {
      for (size_t j = 0; j <= i; ++j) *sum++ += value(i) * value(j);
    }
  }
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
    }
    const float* base = base_ ? tile.inputs[*base_] + begin : nullptr;
    if (layout_.kind == VectorLayout::Kind::kColumns) {
      AddColumns(values, base, position, count);
    } else {
      AddDots(values.data(), values.size(), base, count,
              &sums_[vector * pairs_]);
    }
    begin += count;
  }
}

}  // namespace cairn
