#ifndef CAIRN_CORE_TENSOR_FLOAT_KERNELS_H_
#define CAIRN_CORE_TENSOR_FLOAT_KERNELS_H_

#include <cstdint>

#include "absl/types/span.h"

namespace cairn {

// Inner loops of a merge. They use the widest vectors of the machine, but what
// is rounded, and in which order sums run, is fixed, so that all machines and
// all ways of cutting the work into ranges give the same bits. Products are
// fused with sums (one rounding) in low-rank products and nowhere else.

// A product of two small factors, scale * left * right.
struct LowRankProduct {
  const float* left = nullptr;   // [rows, rank], row-major
  const float* right = nullptr;  // [rank, columns], row-major
  int64_t rank = 0;
  int64_t columns = 0;
  float scale = 1.0f;
};

// Elements [first, first + out.size()) of the flattened [rows, columns]
// product. Each is the sum over the rank in ascending order, fused, times
// scale.
void MultiplyLowRank(const LowRankProduct& product, int64_t first,
                     absl::Span<float> out);

// The same range, sum += factor * (the product's elements).
void AddLowRank(const LowRankProduct& product, float factor, int64_t first,
                absl::Span<float> sum);

// sum += factor * values
void AddScaled(float factor, absl::Span<const float> values,
               absl::Span<float> sum);

// Sums over a delta of which elements rounding leaves standing. Kept in lanes
// by element index, so feed whole multiples of kLanes but for the last range.
struct SurvivalSums {
  static constexpr int kLanes = 8;

  double wanted[kLanes] = {};   // sum of delta^2
  double applied[kLanes] = {};  // sum of delta * (round(head + delta) - head)

  void Add(const SurvivalSums& other);
};

// Adds factor * delta beside `head`, whose rounded sum with it is `rounded`.
void AddSurvival(float factor, absl::Span<const float> delta,
                 absl::Span<const float> head, absl::Span<const float> rounded,
                 SurvivalSums& sums);

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_FLOAT_KERNELS_H_
