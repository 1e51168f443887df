#include "core/tensor/float_kernels.h"

#include <algorithm>

#include "core/base/log.h"
#include "core/base/vector_clones.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Each kernel's body is compiled once for every instruction set by inlining it
// into functions of that target. This file is compiled without contraction of
// a*b+c, which alone would make results differ between machines; where a sum
// is fused, the code says so, and it is fused everywhere.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {
namespace {

// Sums of kRows x kWidth elements of the product from (row 0, column 0) of the
// factors on, into `sums`. Each instruction set has a shape whose partial sums
// its registers hold.
struct PortableShape {
  static constexpr int kRows = 4, kWidth = 8;

  template <int kRows>
  static void Tile(const LowRankProduct& p, const float* left,
                   const float* right, float* sums) {
    std::fill_n(sums, kRows * kWidth, 0.0f);
    for (int64_t k = 0; k < p.rank; ++k, right += p.columns) {
      for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kWidth; ++i) {
          float& sum = sums[r * kWidth + i];
          sum = __builtin_fmaf(left[r * p.rank + k], right[i], sum);
        }
      }
    }
  }
};

#if defined(__x86_64__)

struct Avx2Shape {
  static constexpr int kRows = 6, kWidth = 16;

  template <int kRows>
  __attribute__((target("avx2,fma"))) static void Tile(const LowRankProduct& p,
                                                       const float* left,
                                                       const float* right,
                                                       float* sums) {
    __m256 sum[kRows][2];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    }
    for (int64_t k = 0; k < p.rank; ++k, right += p.columns, ++left) {
      const __m256 first = _mm256_loadu_ps(right);
      const __m256 second = _mm256_loadu_ps(right + 8);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        const __m256 factor = _mm256_broadcast_ss(left + r * p.rank);
        sum[r][0] = _mm256_fmadd_ps(factor, first, sum[r][0]);
        sum[r][1] = _mm256_fmadd_ps(factor, second, sum[r][1]);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      _mm256_storeu_ps(sums + r * kWidth, sum[r][0]);
      _mm256_storeu_ps(sums + r * kWidth + 8, sum[r][1]);
    }
  }
};

struct Avx512Shape {
  static constexpr int kRows = 12, kWidth = 32;

  template <int kRows>
  __attribute__((target("avx512f,avx512dq,fma"))) static void Tile(
      const LowRankProduct& p, const float* left, const float* right,
      float* sums) {
    __m512 sum[kRows][2];
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < p.rank; ++k, right += p.columns, ++left) {
      const __m512 first = _mm512_loadu_ps(right);
      const __m512 second = _mm512_loadu_ps(right + 16);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const __m512 factor = _mm512_set1_ps(left[r * p.rank]);
        sum[r][0] = _mm512_fmadd_ps(factor, first, sum[r][0]);
        sum[r][1] = _mm512_fmadd_ps(factor, second, sum[r][1]);
      }
    }
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      _mm512_storeu_ps(sums + r * kWidth, sum[r][0]);
      _mm512_storeu_ps(sums + r * kWidth + 16, sum[r][1]);
    }
  }
};

#endif

// Elements [begin, end) of kRows rows of the product. `use` takes each sum.
template <typename Shape, int kRows, typename Use>
CAIRN_INLINE void ProductRows(const LowRankProduct& p, int64_t row,
                              int64_t begin, int64_t end, Use use) {
  constexpr int kWidth = Shape::kWidth;
  const float* left = p.left + row * p.rank;
  float sums[kRows * kWidth];
  int64_t c = begin;
  for (; c + kWidth <= end; c += kWidth) {
    Shape::template Tile<kRows>(p, left, p.right + c, sums);
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < kWidth; ++i)
        use(row + r, c + i, sums[r * kWidth + i]);
    }
  }
  for (; c < end; ++c) {
    for (int r = 0; r < kRows; ++r) {
      float sum = 0;
      for (int64_t k = 0; k < p.rank; ++k) {
        sum = __builtin_fmaf(left[r * p.rank + k], p.right[k * p.columns + c],
                             sum);
      }
      use(row + r, c, sum);
    }
  }
}

// The elements of the flattened range [first, first + count): a part of a row,
// whole rows in blocks of columns that fit the second cache, a part of a row.
template <typename Shape, typename Use>
CAIRN_INLINE void ProductRange(const LowRankProduct& p, int64_t first,
                               int64_t count, Use use) {
  constexpr int64_t kBlock = 256;
  constexpr int kRows = Shape::kRows;
  const int64_t last = first + count;
  int64_t row = first / p.columns;
  if (first % p.columns != 0) {
    const int64_t end = std::min(p.columns, first % p.columns + count);
    ProductRows<Shape, 1>(p, row, first % p.columns, end, use);
    ++row;
  }
  const int64_t whole = last / p.columns;
  for (int64_t begin = 0; row < whole && begin < p.columns; begin += kBlock) {
    const int64_t end = std::min(p.columns, begin + kBlock);
    int64_t r = row;
    for (; r + kRows <= whole; r += kRows) {
      ProductRows<Shape, kRows>(p, r, begin, end, use);
    }
    for (; r + 2 <= whole; r += 2) {
      ProductRows<Shape, 2>(p, r, begin, end, use);
    }
    for (; r < whole; ++r) ProductRows<Shape, 1>(p, r, begin, end, use);
  }
  row = std::max(row, whole);
  if (row * p.columns < last) {
    ProductRows<Shape, 1>(p, row, 0, last - row * p.columns, use);
  }
}

template <typename Shape>
CAIRN_INLINE void ProductBody(const LowRankProduct& p, int64_t first,
                              int64_t count, float* out) {
  ProductRange<Shape>(p, first, count,
                      [&](int64_t row, int64_t column, float sum) {
                        out[row * p.columns + column - first] = sum * p.scale;
                      });
}

template <typename Shape>
CAIRN_INLINE void AddProductBody(const LowRankProduct& p, float factor,
                                 int64_t first, int64_t count, float* out) {
  ProductRange<Shape>(
      p, first, count, [&](int64_t row, int64_t column, float sum) {
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
    ProductBody<name##Shape>(p, first, count, out);                            \
  }                                                                            \
  attributes void AddProduct##name(const LowRankProduct& p, float factor,      \
                                   int64_t first, int64_t count, float* out) { \
    AddProductBody<name##Shape>(p, factor, first, count, out);                 \
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
