#include "merge/method/span_method.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/method/tile_math.h"

namespace cairn {

SpanMethod::SpanMethod(MethodTask task, VectorLayout layout,
                       std::vector<size_t> members, bool less_base)
    : task_(std::move(task)),
      layout_(layout),
      members_(std::move(members)),
      less_base_(less_base && task_.base.has_value()),
      gram_(task_, layout, members_, less_base),
      coefficients_(static_cast<size_t>(gram_.vectors()) * members_.size()) {}

absl::Status SpanMethod::EndPass(int) {
  for (int64_t vector = 0; vector < gram_.vectors(); ++vector) {
    CAIRN_ASSIGN_OR_RETURN(const std::vector<double> row,
                           Coefficients(gram_, vector));
    for (size_t m = 0; m < members_.size(); ++m) {
      coefficients_[static_cast<size_t>(vector) * members_.size() + m] =
          static_cast<float>(row[m]);
    }
  }
  return absl::OkStatus();
}

std::optional<ElementFormula> SpanMethod::Formula() const {
  ElementFormula formula = ElementFormula::Of(
      ElementKind::kWeightedSum, less_base_ ? task_.base : std::nullopt,
      members_, coefficients_);
  if (layout_.kind != VectorLayout::Kind::kWhole) {
    formula.rule.length = static_cast<uint64_t>(layout_.length);
    formula.rule.has_columns = layout_.kind == VectorLayout::Kind::kColumns;
  }
  return formula;
}

void SpanMethod::Combine(const InputTile& tile, float* out) {
  const auto length = static_cast<size_t>(layout_.length);
  float strip[kSumBlock];
  for (size_t begin = 0; begin < tile.count;) {
    const auto position = static_cast<size_t>(tile.first) + begin;
    size_t count = std::min(kSumBlock, tile.count - begin);
    size_t vector = 0;
    if (layout_.kind == VectorLayout::Kind::kRows) {
      vector = position / length;
      count = std::min(count, length - position % length);
    }
    float* sum = out + begin;
    std::fill_n(sum, count, 0.0f);
    const float* base = less_base_ ? tile.inputs[*task_.base] + begin : nullptr;
    for (size_t m = 0; m < members_.size(); ++m) {
      const float* values = tile.inputs[members_[m]] + begin;
      if (base != nullptr) {
        Subtract(values, base, strip, count);
        values = strip;
      }
      if (layout_.kind == VectorLayout::Kind::kColumns) {
        for (size_t k = 0; k < count; ++k) {
          const size_t column = (position + k) % length;
          sum[k] += coefficients_[column * members_.size() + m] * values[k];
        }
      } else {
        AddScaledTo(coefficients_[vector * members_.size() + m], values, sum,
                    count);
      }
    }
    if (base != nullptr) Add(sum, base, sum, count);
    begin += count;
  }
}

}  // namespace cairn
