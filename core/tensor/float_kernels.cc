#include "core/tensor/float_kernels.h"

#include <algorithm>

#include "core/base/log.h"
#include "core/base/vector_clones.h"

// Each kernel's body is compiled once for every instruction set by inlining it
// into functions of that target. This file is compiled without contraction of
// a*b+c, which alone would make results differ between machines; where a sum
// is fused, the code says so, and it is fused everywhere.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {
namespace {

// Elements [begin, end) of kRows rows of the product, kWidth at a time, so that
// partial sums stay in registers. `use` takes each sum.
template <int kRows, int kWidth, typename Use>
CAIRN_INLINE int64_t ProductColumns(const LowRankProduct& p, int64_t row,
                                    int64_t begin, int64_t end, Use use) {
  int64_t c = begin;
  for (; c + kWidth <= end; c += kWidth) {
    float sum[kRows][kWidth] = {};
    const float* left = p.left + row * p.rank;
    const float* right = p.right + c;
    for (int64_t k = 0; k < p.rank; ++k, right += p.columns) {
      for (int r = 0; r < kRows; ++r) {
        const float l = left[r * p.rank + k];
        for (int i = 0; i < kWidth; ++i) {
          sum[r][i] = __builtin_fmaf(l, right[i], sum[r][i]);
        }
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < kWidth; ++i) use(row + r, c + i, sum[r][i]);
    }
  }
  return c;
}

template <int kRows, typename Use>
CAIRN_INLINE void ProductRows(const LowRankProduct& p, int64_t row,
                              int64_t begin, int64_t end, Use use) {
  int64_t c = ProductColumns<kRows, 64>(p, row, begin, end, use);
  c = ProductColumns<kRows, 8>(p, row, c, end, use);
  ProductColumns<kRows, 1>(p, row, c, end, use);
}

// The elements of the flattened range [first, first + count): a part of a row,
// whole rows in blocks of columns that fit the first cache, a part of a row.
template <typename Use>
CAIRN_INLINE void ProductRange(const LowRankProduct& p, int64_t first,
                               int64_t count, Use use) {
  constexpr int64_t kBlock = 256;
  const int64_t last = first + count;
  int64_t row = first / p.columns;
  if (first % p.columns != 0) {
    const int64_t end = std::min(p.columns, first % p.columns + count);
    ProductRows<1>(p, row, first % p.columns, end, use);
    ++row;
  }
  const int64_t whole = last / p.columns;
  for (int64_t begin = 0; row < whole && begin < p.columns; begin += kBlock) {
    const int64_t end = std::min(p.columns, begin + kBlock);
    int64_t r = row;
    for (; r + 4 <= whole; r += 4) ProductRows<4>(p, r, begin, end, use);
    for (; r < whole; ++r) ProductRows<1>(p, r, begin, end, use);
  }
  row = std::max(row, whole);
  if (row * p.columns < last) {
    ProductRows<1>(p, row, 0, last - row * p.columns, use);
  }
}

CAIRN_INLINE void ProductBody(const LowRankProduct& p, int64_t first,
                              int64_t count, float* out) {
  ProductRange(p, first, count, [&](int64_t row, int64_t column, float sum) {
    out[row * p.columns + column - first] = sum * p.scale;
  });
}

CAIRN_INLINE void AddProductBody(const LowRankProduct& p, float factor,
                                 int64_t first, int64_t count, float* out) {
  ProductRange(p, first, count, [&](int64_t row, int64_t column, float sum) {
    out[row * p.columns + column - first] += factor * (sum * p.scale);
  });
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
  void (*add_product)(const LowRankProduct&, float, int64_t, int64_t, float*);
  void (*add_scaled)(float, const float*, float*, int64_t);
  void (*survival)(float, const float*, const float*, const float*, int64_t,
                   SurvivalSums&);
};

#define CAIRN_DEFINE_KERNELS(name, attributes)                                 \
  attributes void Product##name(const LowRankProduct& p, int64_t first,        \
                                int64_t count, float* out) {                   \
    ProductBody(p, first, count, out);                                         \
  }                                                                            \
  attributes void AddProduct##name(const LowRankProduct& p, float factor,      \
                                   int64_t first, int64_t count, float* out) { \
    AddProductBody(p, factor, first, count, out);                              \
  }                                                                            \
  attributes void AddScaled##name(float factor, const float* values,           \
                                  float* sum, int64_t count) {                 \
    AddScaledBody(factor, values, sum, count);                                 \
  }                                                                            \
  attributes void Survival##name(float factor, const float* delta,             \
                                 const float* head, const float* rounded,      \
                                 int64_t count, SurvivalSums& sums) {          \
    SurvivalBody(factor, delta, head, rounded, count, sums);                   \
  }                                                                            \
  constexpr Kernels k##name = {Product##name, AddProduct##name,                \
                               AddScaled##name, Survival##name};

CAIRN_DEFINE_KERNELS(Portable, )
#if defined(__x86_64__)
CAIRN_DEFINE_KERNELS(Avx2, __attribute__((target("avx2,fma"))))
CAIRN_DEFINE_KERNELS(Avx512, __attribute__((target("avx512f,avx512dq,fma"))))
#endif

const Kernels& BestKernels() {
#if defined(__x86_64__)
  static const Kernels& best = WidestOf(kPortable, kAvx2, kAvx512);
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

void AddLowRank(const LowRankProduct& product, float factor, int64_t first,
                absl::Span<float> sum) {
  BestKernels().add_product(product, factor, first,
                            static_cast<int64_t>(sum.size()), sum.data());
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
