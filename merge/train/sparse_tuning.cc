#include "merge/train/sparse_tuning.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<SparseTuning>> SparseTuning::Create(
    std::vector<TunedWeight> weights, std::vector<int64_t> mask) {
  int64_t limit = 0;
  for (const TunedWeight& weight : weights) limit += weight.tensor.numel();
  int64_t previous = -1;
  for (const int64_t position : mask) {
    if (position <= previous || position >= limit) {
      return absl::InvalidArgumentError(
          absl::StrCat("mask position ", position, " after ", previous,
                       "; positions ascend and are below ", limit));
    }
    previous = position;
  }
  return absl::WrapUnique(
      new SparseTuning(std::move(weights), std::move(mask)));
}

SparseTuning::SparseTuning(std::vector<TunedWeight> weights,
                           std::vector<int64_t> mask)
    : Tuning(std::move(weights)), mask_(std::move(mask)) {
  auto next = mask_.begin();
  int64_t begin = 0;
  for (const TunedWeight& weight : weights_) {
    const absl::Span<float> floats = FloatsOf(weight.tensor);
    const int64_t end = begin + weight.tensor.numel();
    for (; next != mask_.end() && *next < end; ++next) {
      places_.push_back(floats.data() + (*next - begin));
      values_.push_back(*places_.back());
    }
    begin = end;
  }
}

void SparseTuning::Apply() {
  for (size_t i = 0; i < places_.size(); ++i) *places_[i] = values_[i];
}

void SparseTuning::Reduce(absl::Span<const float> gradient,
                          absl::Span<float> out) const {
  for (size_t i = 0; i < mask_.size(); ++i) {
    out[i] = gradient[static_cast<size_t>(mask_[i])];
  }
}

std::vector<int64_t> LargestPositions(absl::Span<const float> fisher,
                                      int64_t count) {
  std::vector<int64_t> positions(fisher.size());
  std::iota(positions.begin(), positions.end(), 0);
  const auto end = positions.begin() +
                   std::min(count, static_cast<int64_t>(positions.size()));
  std::nth_element(positions.begin(), end, positions.end(),
                   [fisher](int64_t a, int64_t b) {
                     const float x = fisher[static_cast<size_t>(a)];
                     const float y = fisher[static_cast<size_t>(b)];
                     return x != y ? x > y : a < b;
                   });
  positions.erase(end, positions.end());
  std::sort(positions.begin(), positions.end());
  return positions;
}

}  // namespace cairn
