#include "merge/method/tile_math.h"

#include <algorithm>
#include <cmath>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"

namespace cairn {
namespace {

// Lanes of a sum: by element index within its block.
constexpr size_t kLanes = 16;

// The lanes in a fixed order.
inline double Total(const double* lanes) {
  double total = 0;
  for (size_t i = 0; i < kLanes; ++i) total += lanes[i];
  return total;
}

}  // namespace

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
    total += Total(lanes);
  }
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
    total += Total(lanes);
  }
}

CAIRN_VECTOR_CLONES void SumAgreeing(const float* const* d,
                                     const float* weights, size_t n,
                                     float* mixed, float* divisor,
                                     size_t count) {
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    float sign[kStrip];
    std::fill_n(sign, strip, 0.0f);
    for (size_t k = 0; k < n; ++k) {
      const float* values = d[k] + begin;
      for (size_t i = 0; i < strip; ++i) sign[i] += values[i];
    }
    for (size_t i = 0; i < strip; ++i) sign[i] = ElectedSign(sign[i]);
    float* out = mixed + begin;
    float* sum = divisor + begin;
    std::fill_n(out, strip, 0.0f);
    std::fill_n(sum, strip, 0.0f);
    for (size_t k = 0; k < n; ++k) {
      const float* values = d[k] + begin;
      const float weight = weights[k];
      for (size_t i = 0; i < strip; ++i) {
        AddAgreeing(values[i], weight, sign[i], out[i], sum[i]);
      }
    }
  }
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

CAIRN_VECTOR_CLONES void DivideWhereNotZero(const float* divisor, float* values,
                                            size_t count) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = OverNonZero(values[i], divisor[i]);
  }
}

}  // namespace cairn
