#include "merge/kernel/row_kernels.h"

#include <bit>
#include <cmath>

#include "core/base/vector_clones.h"

// As in core/tensor/float_kernels.cc: bodies are inlined into one function for
// each instruction set, and the file is compiled without contraction; where a
// product is fused with a sum, the code says so.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {
namespace {

// Partial sums of a row: element i goes to lane i % kLanes, whatever the
// width of the machine's vectors.
constexpr int kLanes = 16;
// Half of them: what compilers keep in registers for every width of vectors.
using Half = float __attribute__((vector_size(32)));
using LooseHalf = float __attribute__((vector_size(32), aligned(4), may_alias));

CAIRN_INLINE void Load(const float* lanes, Half& low, Half& high) {
  low = *reinterpret_cast<const LooseHalf*>(lanes);
  high = *reinterpret_cast<const LooseHalf*>(lanes + kLanes / 2);
}

// Adds up neighbours, then neighbours of those.
CAIRN_INLINE float SumOf(const float (&lanes)[kLanes]) {
  Half sums, high;
  Load(lanes, sums, high);
  sums += high;
  sums += __builtin_shufflevector(sums, sums, 4, 5, 6, 7, 0, 1, 2, 3);
  sums += __builtin_shufflevector(sums, sums, 2, 3, 0, 1, 6, 7, 4, 5);
  sums += __builtin_shufflevector(sums, sums, 1, 0, 3, 2, 5, 4, 7, 6);
  return sums[0];
}

// e^x to about 2 units in the last place, 0 where that is not a normal number.
// Range reduction and polynomial are those of expf in Moshier's Cephes.
CAIRN_INLINE float Exp(float x) {
  constexpr float kLowest = -87.3f, kHighest = 89.0f;
  constexpr float kRound = 12582912.0f;  // its unit in the last place is 1
  const float in = x > kHighest ? kHighest : x;
  const float shifted = __builtin_fmaf(in, 1.44269504f, kRound);
  const float n = shifted - kRound;
  const float r =
      __builtin_fmaf(n, 2.12194440e-4f, __builtin_fmaf(n, -0.693359375f, in));
  float p = 1.9875691500e-4f;
  p = __builtin_fmaf(p, r, 1.3981999507e-3f);
  p = __builtin_fmaf(p, r, 8.3334519073e-3f);
  p = __builtin_fmaf(p, r, 4.1665795894e-2f);
  p = __builtin_fmaf(p, r, 1.6666665459e-1f);
  p = __builtin_fmaf(p, r, 5.0000001201e-1f);
  p = __builtin_fmaf(p, r * r, r) + 1.0f;
  const uint32_t exponent =
      std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound) + 127;
  const float power = std::bit_cast<float>(exponent << 23);
  return x < kLowest ? 0.0f : p * power;
}

CAIRN_INLINE void KeepMore(const Half& value, Half& most) {
  most = value > most ? value : most;
}

CAIRN_INLINE float MaxOf(const float* row, int64_t count) {
  Half most = row[0] - Half{}, other = most;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Half low, high;
    Load(row + i, low, high);
    KeepMore(low, most);
    KeepMore(high, other);
  }
  KeepMore(other, most);
  KeepMore(__builtin_shufflevector(most, most, 4, 5, 6, 7, 0, 1, 2, 3), most);
  KeepMore(__builtin_shufflevector(most, most, 2, 3, 0, 1, 6, 7, 4, 5), most);
  KeepMore(__builtin_shufflevector(most, most, 1, 0, 3, 2, 5, 4, 7, 6), most);
  float result = most[0];
  for (; i < count; ++i) result = row[i] > result ? row[i] : result;
  return result;
}

// The sum of use(i) over i < count, where `use` may write as well.
template <typename Use>
CAIRN_INLINE float SumOver(int64_t count, Use use) {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += use(i + lane);
  }
  for (int lane = 0; i < count; ++i, ++lane) lanes[lane] += use(i);
  return SumOf(lanes);
}

}  // namespace

CAIRN_VECTOR_CLONES
void RmsNormRows(const float* x, const float* gain, int64_t rows, int64_t width,
                 float epsilon, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += width, out += width) {
    const float squares =
        SumOver(width, [x](int64_t i) { return x[i] * x[i]; });
    const float scale =
        1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
    for (int64_t i = 0; i < width; ++i) out[i] = x[i] * scale * gain[i];
  }
}

CAIRN_VECTOR_CLONES
void SiluProductRows(const float* gate, const float* up, int64_t rows,
                     int64_t width, int64_t stride, float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < width; ++i) {
      out[i] = gate[i] / (1.0f + Exp(-gate[i])) * up[i];
    }
    gate += stride;
    up += stride;
    out += width;
  }
}

CAIRN_VECTOR_CLONES
void RotateRows(const float* x, int64_t stride, const float* cos,
                const float* sin, int64_t rows, int64_t half, int64_t width,
                float* out) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < half; ++i) {
      const float first = x[i], second = x[half + i];
      out[i] = first * cos[i] - second * sin[i];
      out[half + i] = second * cos[i] + first * sin[i];
    }
    for (int64_t i = 2 * half; i < width; ++i) out[i] = x[i];
    x += stride;
    cos += half;
    sin += half;
    out += width;
  }
}

CAIRN_VECTOR_CLONES
float ExpChunks(const float* __restrict row, int64_t width, int64_t stride,
                float* __restrict out) {
  const float most = MaxOf(row, width);
  Half low = {}, high = {};
  for (int64_t i = 0; i < width; i += kLanes, out += stride) {
    for (int lane = 0; lane < kLanes; ++lane) {
      out[lane] = Exp(row[i + lane] - most);
    }
    Half low_terms, high_terms;
    Load(out, low_terms, high_terms);
    low += low_terms;
    high += high_terms;
  }
  float lanes[kLanes];
  *reinterpret_cast<LooseHalf*>(lanes) = low;
  *reinterpret_cast<LooseHalf*>(lanes + kLanes / 2) = high;
  return SumOf(lanes);
}

CAIRN_VECTOR_CLONES
double LogSumExp(const float* row, int64_t width) {
  const float most = MaxOf(row, width);
  const float sum =
      SumOver(width, [row, most](int64_t i) { return Exp(row[i] - most); });
  return double{most} + std::log(double{sum});
}

}  // namespace cairn
