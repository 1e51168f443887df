#include "merge/method/tile_math.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {
namespace {

constexpr size_t kLanes = kSumLanes;

}  // namespace

double TotalOfLanes(const double* lanes) {
  double total = 0;
  for (size_t i = 0; i < kLanes; ++i) total += lanes[i];
  return total;
}

CAIRN_VECTOR_CLONES void Subtract(const float* a, const float* b, float* out,
                                  size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = a[i] - b[i];
}

CAIRN_VECTOR_CLONES void Add(const float* a, const float* b, float* out,
                             size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

CAIRN_VECTOR_CLONES void Scale(float factor, const float* a, float* out,
                               size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = factor * a[i];
}

CAIRN_VECTOR_CLONES void AddScaledTo(float factor, const float* a, float* sum,
                                     size_t count) {
  for (size_t i = 0; i < count; ++i) sum[i] += factor * a[i];
}

CAIRN_VECTOR_CLONES void Magnitude(const float* a, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = std::fabs(a[i]);
}

CAIRN_VECTOR_CLONES void AddDot(const float* a, const float* b, size_t count,
                                double& total) {
  for (size_t begin = 0; begin < count; begin += kSumBlock) {
    const size_t end = std::min(count, begin + kSumBlock);
    double lanes[kLanes] = {};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] +=
            static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
      }
    }
    for (size_t lane = 0; i < end; ++i, ++lane) {
      lanes[lane] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    }
    total += TotalOfLanes(lanes);
  }
}

namespace {

// Products of floats are exact in double, so that a fused multiply-add rounds
// as a product and a sum do: vectors may fuse them, others need not.
void AddDotsPortable(const float* const* a, size_t n, const float* base,
                     size_t count, double* totals) {
  std::vector<float> rows(n * count);
  for (size_t m = 0; m < n; ++m) {
    float* row = rows.data() + m * count;
    if (base == nullptr) {
      std::copy_n(a[m], count, row);
    } else {
      Subtract(a[m], base, row, count);
    }
    for (size_t j = 0; j <= m; ++j) {
      AddDot(row, rows.data() + j * count, count, *totals++);
    }
  }
}

#if defined(__x86_64__)

// Four lanes of the sums of kN tensors, from element kFirst of each kLanes on.
template <size_t kN, bool kHasBase>
__attribute__((target("avx2,fma"))) inline void AddFourLanes(
    const float* const* a, const float* base, size_t begin, size_t end,
    double* lanes) {
  constexpr size_t kPairs = kN * (kN + 1) / 2;
  __m256d sums[kPairs];
#pragma GCC unroll 10
  for (size_t p = 0; p < kPairs; ++p)
    sums[p] = _mm256_loadu_pd(lanes + p * kLanes);
  for (size_t i = begin; i < end; i += kLanes) {
    __m128 from = _mm_setzero_ps();
    if constexpr (kHasBase) from = _mm_loadu_ps(base + i);
    __m256d values[kN];
#pragma GCC unroll 4
    for (size_t m = 0; m < kN; ++m) {
      __m128 value = _mm_loadu_ps(a[m] + i);
      if constexpr (kHasBase) value = _mm_sub_ps(value, from);
      values[m] = _mm256_cvtps_pd(value);
    }
    size_t p = 0;
#pragma GCC unroll 4
    for (size_t m = 0; m < kN; ++m) {
#pragma GCC unroll 4
      for (size_t j = 0; j <= m; ++j, ++p) {
        sums[p] = _mm256_fmadd_pd(values[m], values[j], sums[p]);
      }
    }
  }
#pragma GCC unroll 10
  for (size_t p = 0; p < kPairs; ++p)
    _mm256_storeu_pd(lanes + p * kLanes, sums[p]);
}

template <size_t kN, bool kHasBase>
__attribute__((target("avx2,fma"))) void AddDotsAvx2(const float* const* a,
                                                     const float* base,
                                                     size_t count,
                                                     double* totals) {
  constexpr size_t kPairs = kN * (kN + 1) / 2;
  // So much of all tensors stays in the first cache for the next lanes.
  constexpr size_t kStrip = 1024;
  double lanes[kPairs * kLanes] = {};
  const size_t whole = count / kLanes * kLanes;
  for (size_t begin = 0; begin < whole; begin += kStrip) {
    const size_t end = std::min(whole, begin + kStrip);
    for (size_t lane = 0; lane < kLanes; lane += 4) {
      AddFourLanes<kN, kHasBase>(a, base, begin + lane, end, lanes + lane);
    }
  }
  for (size_t i = whole; i < count; ++i) {
    size_t p = 0;
    for (size_t m = 0; m < kN; ++m) {
      for (size_t j = 0; j <= m; ++j, ++p) {
        const float from = kHasBase ? base[i] : 0.0f;
        const float x = kHasBase ? a[m][i] - from : a[m][i];
        const float y = kHasBase ? a[j][i] - from : a[j][i];
        lanes[p * kLanes + i - whole] +=
            static_cast<double>(x) * static_cast<double>(y);
      }
    }
  }
  for (size_t p = 0; p < kPairs; ++p) {
    totals[p] += TotalOfLanes(lanes + p * kLanes);
  }
}

using DotsFunction = void (*)(const float* const* a, const float* base,
                              size_t count, double* totals);
// Null where there is none for so many tensors, or the machine cannot.
DotsFunction BestDots(size_t n, bool has_base) {
  static constexpr DotsFunction kNone = nullptr, kAny = AddDotsAvx2<1, false>;
  static const bool can = WidestOf(kNone, kAny, kAny) != nullptr;
  if (!can) return nullptr;
  switch (n) {
    case 2:
      return has_base ? AddDotsAvx2<2, true> : AddDotsAvx2<2, false>;
    case 3:
      return has_base ? AddDotsAvx2<3, true> : AddDotsAvx2<3, false>;
    case 4:
      return has_base ? AddDotsAvx2<4, true> : AddDotsAvx2<4, false>;
    default:
      return nullptr;
  }
}

#else

using DotsFunction = void (*)(const float* const* a, const float* base,
                              size_t count, double* totals);
DotsFunction BestDots(size_t, bool) { return nullptr; }

#endif

}  // namespace

void AddDots(const float* const* a, size_t n, const float* base, size_t count,
             double* totals) {
  if (const DotsFunction dots = BestDots(n, base != nullptr)) {
    return dots(a, base, count, totals);
  }
  AddDotsPortable(a, n, base, count, totals);
}

CAIRN_VECTOR_CLONES void AddL1(const float* a, size_t count, double& total) {
  for (size_t begin = 0; begin < count; begin += kSumBlock) {
    const size_t end = std::min(count, begin + kSumBlock);
    double lanes[kLanes] = {};
    size_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        lanes[lane] += static_cast<double>(std::fabs(a[i + lane]));
      }
    }
    for (size_t lane = 0; i < end; ++i, ++lane) {
      lanes[lane] += static_cast<double>(std::fabs(a[i]));
    }
    total += TotalOfLanes(lanes);
  }
}

namespace {

// Of so many tensors each element's sum stays in a register.
template <size_t kN>
CAIRN_INLINE void AddFewTaskVectors(const float* const* a, const float* weights,
                                    const float* base, float factor, float* out,
                                    size_t count) {
  CAIRN_IVDEP
  for (size_t i = 0; i < count; ++i) {
    const float from = base[i];
    float sum = 0;
    for (size_t k = 0; k < kN; ++k) sum += weights[k] * (a[k][i] - from);
    out[i] = factor * sum + from;
  }
}

}  // namespace

CAIRN_VECTOR_CLONES void AddTaskVectors(const float* const* a,
                                        const float* weights, size_t n,
                                        const float* base, float factor,
                                        float* out, size_t count) {
  switch (n) {
    case 1:
      return AddFewTaskVectors<1>(a, weights, base, factor, out, count);
    case 2:
      return AddFewTaskVectors<2>(a, weights, base, factor, out, count);
    case 3:
      return AddFewTaskVectors<3>(a, weights, base, factor, out, count);
    case 4:
      return AddFewTaskVectors<4>(a, weights, base, factor, out, count);
    default:
      break;
  }
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    const float* from = base + begin;
    float sum[kStrip] = {};
    for (size_t k = 0; k < n; ++k) {
      const float* values = a[k] + begin;
      for (size_t i = 0; i < strip; ++i) {
        sum[i] += weights[k] * (values[i] - from[i]);
      }
    }
    for (size_t i = 0; i < strip; ++i) {
      out[begin + i] = factor * sum[i] + from[i];
    }
  }
}

CAIRN_VECTOR_CLONES void AddDeltas(const float* const* d, size_t n,
                                   const float* base, float factor, float* out,
                                   size_t count) {
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    float sum[kStrip] = {};
    for (size_t k = 0; k < n; ++k) {
      const float* values = d[k] + begin;
      for (size_t i = 0; i < strip; ++i) sum[i] += values[i];
    }
    for (size_t i = 0; i < strip; ++i) {
      out[begin + i] = factor * sum[i] + base[begin + i];
    }
  }
}

namespace {

// Element i of the k-th weighted delta: as it is given, or made of a tensor.
struct GivenDeltas {
  const float* const* d;
  CAIRN_INLINE float operator()(size_t k, size_t i, float) const {
    return d[k][i];
  }
};
struct TaskVectorDeltas {
  const float* const* a;
  const float* weights;
  CAIRN_INLINE float operator()(size_t k, size_t i, float base) const {
    return weights[k] * (a[k][i] - base);
  }
};

// Of so few inputs nothing goes through memory.
template <size_t kN, bool kIsNormalized, typename Deltas>
CAIRN_INLINE void AddFewAgreeing(const Deltas& deltas, const float* weights,
                                 const float* base, float factor, float* out,
                                 size_t count) {
  CAIRN_IVDEP
  for (size_t i = 0; i < count; ++i) {
    float d[kN];
    float sum = 0, mixed = 0, divisor = 0;
    for (size_t k = 0; k < kN; ++k) d[k] = deltas(k, i, base[i]);
    for (size_t k = 0; k < kN; ++k) sum += d[k];
    const float sign = ElectedSign(sum);
    for (size_t k = 0; k < kN; ++k) {
      AddAgreeing(d[k], weights[k], sign, mixed, divisor);
    }
    if constexpr (kIsNormalized) mixed = OverNonZero(mixed, divisor);
    out[i] = factor * mixed + base[i];
  }
}

template <bool kIsNormalized, typename Deltas>
CAIRN_INLINE void AddAgreeingBody(const Deltas& d, const float* weights,
                                  size_t n, const float* base, float factor,
                                  float* out, size_t count) {
  switch (n) {
    case 2:
      return AddFewAgreeing<2, kIsNormalized>(d, weights, base, factor, out,
                                              count);
    case 3:
      return AddFewAgreeing<3, kIsNormalized>(d, weights, base, factor, out,
                                              count);
    case 4:
      return AddFewAgreeing<4, kIsNormalized>(d, weights, base, factor, out,
                                              count);
    default:
      break;
  }
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    const float* from = base + begin;
    float sign[kStrip] = {}, mixed[kStrip] = {}, divisor[kStrip] = {};
    for (size_t k = 0; k < n; ++k) {
      for (size_t i = 0; i < strip; ++i) sign[i] += d(k, begin + i, from[i]);
    }
    for (size_t i = 0; i < strip; ++i) sign[i] = ElectedSign(sign[i]);
    for (size_t k = 0; k < n; ++k) {
      const float weight = weights[k];
      for (size_t i = 0; i < strip; ++i) {
        AddAgreeing(d(k, begin + i, from[i]), weight, sign[i], mixed[i],
                    divisor[i]);
      }
    }
    for (size_t i = 0; i < strip; ++i) {
      const float value =
          kIsNormalized ? OverNonZero(mixed[i], divisor[i]) : mixed[i];
      out[begin + i] = factor * value + from[i];
    }
  }
}

template <typename Deltas>
CAIRN_INLINE void AddAgreeingOf(const Deltas& d, const float* weights, size_t n,
                                bool is_normalized, const float* base,
                                float factor, float* out, size_t count) {
  if (is_normalized) {
    AddAgreeingBody<true>(d, weights, n, base, factor, out, count);
  } else {
    AddAgreeingBody<false>(d, weights, n, base, factor, out, count);
  }
}

}  // namespace

CAIRN_VECTOR_CLONES void AddAgreeingDeltas(const float* const* d,
                                           const float* weights, size_t n,
                                           bool is_normalized,
                                           const float* base, float factor,
                                           float* out, size_t count) {
  AddAgreeingOf(GivenDeltas{d}, weights, n, is_normalized, base, factor, out,
                count);
}

CAIRN_VECTOR_CLONES void AddAgreeingTaskVectors(const float* const* a,
                                                const float* weights, size_t n,
                                                bool is_normalized,
                                                const float* base, float factor,
                                                float* out, size_t count) {
  AddAgreeingOf(TaskVectorDeltas{a, weights}, weights, n, is_normalized, base,
                factor, out, count);
}

CAIRN_VECTOR_CLONES void MeanOfAgreeing(const float* const* d,
                                        const float* weights, size_t n,
                                        float* mixed, size_t count) {
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    float sign[kStrip], agreeing[kStrip];
    std::fill_n(sign, strip, 0.0f);
    std::fill_n(agreeing, strip, 0.0f);
    for (size_t k = 0; k < n; ++k) {
      const float* values = d[k] + begin;
      for (size_t i = 0; i < strip; ++i) sign[i] += values[i];
    }
    for (size_t i = 0; i < strip; ++i) sign[i] = sign[i] >= 0 ? 1.0f : -1.0f;
    float* out = mixed + begin;
    std::fill_n(out, strip, 0.0f);
    for (size_t k = 0; k < n; ++k) {
      const float* values = d[k] + begin;
      const float weight = weights[k];
      for (size_t i = 0; i < strip; ++i) {
        const bool agrees = values[i] * sign[i] > 0;
        out[i] += agrees ? weight * values[i] : 0.0f;
        agreeing[i] += agrees ? 1.0f : 0.0f;
      }
    }
    for (size_t i = 0; i < strip; ++i) {
      out[i] /= agreeing[i] == 0 ? 1.0f : agreeing[i];
    }
  }
}

}  // namespace cairn
