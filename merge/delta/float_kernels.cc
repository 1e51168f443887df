#include "merge/delta/float_kernels.h"

#include <algorithm>

#include "core/base/log.h"

// Each kernel's body is compiled once for every instruction set by inlining it
// into functions of that target. This file is compiled without contraction of
// a*b+c, which alone would make results differ between machines.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {
namespace {

// One row of the product, columns [begin, end), for kWidth columns at a time
// so that partial sums stay in registers.
template <int kWidth>
CAIRN_INLINE int64_t ProductColumns(const LowRankProduct& p, const float* left,
                                    int64_t begin, int64_t end, float* out) {
  int64_t c = begin;
  for (; c + kWidth <= end; c += kWidth) {
    float sum[kWidth] = {};
    const float* right = p.right + c;
    for (int64_t k = 0; k < p.rank; ++k, right += p.columns) {
      const float l = left[k];
      for (int i = 0; i < kWidth; ++i) sum[i] += l * right[i];
    }
    for (int i = 0; i < kWidth; ++i) out[c - begin + i] = sum[i] * p.scale;
  }
  return c;
}

CAIRN_INLINE void ProductRow(const LowRankProduct& p, int64_t row,
                             int64_t begin, int64_t end, float* out) {
  const float* left = p.left + row * p.rank;
  int64_t c = ProductColumns<64>(p, left, begin, end, out);
  c = ProductColumns<8>(p, left, c, end, out + (c - begin));
  ProductColumns<1>(p, left, c, end, out + (c - begin));
}

CAIRN_INLINE void ProductBody(const LowRankProduct& p, int64_t first,
                              int64_t count, float* out) {
  while (count > 0) {
    const int64_t row = first / p.columns;
    const int64_t begin = first % p.columns;
    const int64_t end = std::min(p.columns, begin + count);
    ProductRow(p, row, begin, end, out);
    out += end - begin;
    first += end - begin;
    count -= end - begin;
  }
}

CAIRN_INLINE void AddScaledBody(float factor, const float* values, float* sum,
                                int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += factor * values[i];
}

CAIRN_INLINE void SurvivalBody(float factor, const float* delta,
                               const float* head, const float* rounded,
                               int64_t count, SurvivalSums& sums) {
  constexpr int kLanes = SurvivalSums::kLanes;
  double wanted[kLanes], applied[kLanes];
  std::copy_n(sums.wanted, kLanes, wanted);
  std::copy_n(sums.applied, kLanes, applied);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double d = static_cast<double>(factor * delta[i + lane]);
      const double r = static_cast<double>(rounded[i + lane] - head[i + lane]);
      wanted[lane] += d * d;
      applied[lane] += d * r;
    }
  }
  for (int lane = 0; i + lane < count; ++lane) {
    const double d = static_cast<double>(factor * delta[i + lane]);
    const double r = static_cast<double>(rounded[i + lane] - head[i + lane]);
    wanted[lane] += d * d;
    applied[lane] += d * r;
  }
  std::copy_n(wanted, kLanes, sums.wanted);
  std::copy_n(applied, kLanes, sums.applied);
}

struct Kernels {
  void (*product)(const LowRankProduct&, int64_t, int64_t, float*);
  void (*add_scaled)(float, const float*, float*, int64_t);
  void (*survival)(float, const float*, const float*, const float*, int64_t,
                   SurvivalSums&);
};

#define CAIRN_DEFINE_KERNELS(name, attributes)                            \
  attributes void Product##name(const LowRankProduct& p, int64_t first,   \
                                int64_t count, float* out) {              \
    ProductBody(p, first, count, out);                                    \
  }                                                                       \
  attributes void AddScaled##name(float factor, const float* values,      \
                                  float* sum, int64_t count) {            \
    AddScaledBody(factor, values, sum, count);                            \
  }                                                                       \
  attributes void Survival##name(float factor, const float* delta,        \
                                 const float* head, const float* rounded, \
                                 int64_t count, SurvivalSums& sums) {     \
    SurvivalBody(factor, delta, head, rounded, count, sums);              \
  }                                                                       \
  constexpr Kernels k##name = {Product##name, AddScaled##name, Survival##name};

CAIRN_DEFINE_KERNELS(Portable, )
#if defined(__x86_64__)
CAIRN_DEFINE_KERNELS(Avx2, __attribute__((target("avx2"))))
CAIRN_DEFINE_KERNELS(Avx512, __attribute__((target("avx512f,avx512dq"))))
#endif

const Kernels& BestKernels() {
#if defined(__x86_64__)
  static const Kernels& best =
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
          ? kAvx512
      : __builtin_cpu_supports("avx2") ? kAvx2
                                       : kPortable;
  return best;
#else
  return kPortable;
#endif
}

}  // namespace

void MultiplyLowRank(const LowRankProduct& product, int64_t first,
                     absl::Span<float> out) {
  BestKernels().product(product, first, static_cast<int64_t>(out.size()),
                        out.data());
}

void AddScaled(float factor, absl::Span<const float> values,
               absl::Span<float> sum) {
  CAIRN_CHECK(values.size() == sum.size());
  BestKernels().add_scaled(factor, values.data(), sum.data(),
                           static_cast<int64_t>(sum.size()));
}

void SurvivalSums::Add(const SurvivalSums& other) {
  for (int i = 0; i < kLanes; ++i) {
    wanted[i] += other.wanted[i];
    applied[i] += other.applied[i];
  }
}

void AddSurvival(float factor, absl::Span<const float> delta,
                 absl::Span<const float> head, absl::Span<const float> rounded,
                 SurvivalSums& sums) {
  CAIRN_CHECK(delta.size() == head.size() && head.size() == rounded.size());
  BestKernels().survival(factor, delta.data(), head.data(), rounded.data(),
                         static_cast<int64_t>(delta.size()), sums);
}

}  // namespace cairn
