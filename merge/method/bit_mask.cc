#include "merge/method/bit_mask.h"

#include <algorithm>
#include <cmath>

#include "core/base/vector_clones.h"
#include "merge/method/tile_math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {
namespace {

constexpr size_t kLanes = kSumLanes;
static_assert(kSumBlock % 64 == 0);

bool IsKept(const uint64_t* bits, size_t i) {
  return ((bits[i / 64] >> (i % 64)) & 1) != 0;
}

// Elements [begin, end), which lie within a block of sums.
void AddLanes(const float* values, const uint64_t* bits, size_t begin,
              size_t end, double* before, double* after) {
  for (size_t i = begin; i < end; ++i) {
    const double magnitude = static_cast<double>(std::fabs(values[i]));
    before[i % kLanes] += magnitude;
    after[i % kLanes] += IsKept(bits, i) ? magnitude : 0.0;
  }
}

struct Kernels {
  void (*scale_kept)(const uint64_t* bits, float factor, float* values,
                     size_t count);
  void (*keep_difference)(const uint64_t* bits, float factor,
                          const float* values, const float* base, float weight,
                          float* out, size_t count);
  // Of at most kSumBlock elements, into kLanes sums each.
  void (*add_lanes)(const float* values, const uint64_t* bits, size_t count,
                    double* before, double* after);
  void (*pack)(const uint32_t* words, uint64_t* bits, size_t count);
};

void ScalePortable(const uint64_t* bits, float factor, float* values,
                   size_t count) {
  for (size_t i = 0; i < count; ++i) {
    values[i] = IsKept(bits, i) ? factor * values[i] : 0.0f;
  }
}

void KeepPortable(const uint64_t* bits, float factor, const float* values,
                  const float* base, float weight, float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = weight * (IsKept(bits, i) ? factor * (values[i] - base[i]) : 0.0f);
  }
}

void AddLanesPortable(const float* values, const uint64_t* bits, size_t count,
                      double* before, double* after) {
  AddLanes(values, bits, 0, count, before, after);
}

// From element `begin` on, a multiple of 64.
void PackFrom(size_t begin, const uint32_t* words, uint64_t* bits,
              size_t count) {
  for (size_t i = begin; i < count; i += 64) {
    uint64_t word = 0;
    for (size_t k = 0; k < std::min<size_t>(64, count - i); ++k) {
      word |= uint64_t{words[i + k] != 0} << k;
    }
    bits[i / 64] = word;
  }
}

void PackPortable(const uint32_t* words, uint64_t* bits, size_t count) {
  PackFrom(0, words, bits, count);
}

constexpr Kernels kPortable = {ScalePortable, KeepPortable, AddLanesPortable,
                               PackPortable};

#if defined(__x86_64__)

#define CAIRN_AVX2 __attribute__((target("avx2,fma")))

// All ones in the lanes whose bit of `byte` is set.
CAIRN_AVX2 inline __m256 LanesOf(uint32_t byte) {
  const __m256i lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  const __m256i all = _mm256_set1_epi32(static_cast<int>(byte));
  return _mm256_castsi256_ps(
      _mm256_cmpeq_epi32(_mm256_and_si256(all, lanes), lanes));
}

CAIRN_AVX2 void ScaleAvx2(const uint64_t* bits, float factor, float* values,
                          size_t count) {
  const __m256 factors = _mm256_set1_ps(factor);
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    uint64_t word = bits[i / 64];
    for (size_t k = 0; k < 64; k += 8, word >>= 8) {
      float* at = values + i + k;
      const __m256 scaled = _mm256_mul_ps(factors, _mm256_loadu_ps(at));
      _mm256_storeu_ps(
          at, _mm256_and_ps(scaled, LanesOf(static_cast<uint32_t>(word))));
    }
  }
  ScalePortable(bits + i / 64, factor, values + i, count - i);
}

CAIRN_AVX2 void KeepAvx2(const uint64_t* bits, float factor,
                         const float* values, const float* base, float weight,
                         float* out, size_t count) {
  const __m256 factors = _mm256_set1_ps(factor);
  const __m256 weights = _mm256_set1_ps(weight);
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    uint64_t word = bits[i / 64];
    for (size_t k = i; k < i + 64; k += 8, word >>= 8) {
      const __m256 delta =
          _mm256_sub_ps(_mm256_loadu_ps(values + k), _mm256_loadu_ps(base + k));
      const __m256 kept = _mm256_and_ps(_mm256_mul_ps(factors, delta),
                                        LanesOf(static_cast<uint32_t>(word)));
      _mm256_storeu_ps(out + k, _mm256_mul_ps(weights, kept));
    }
  }
  KeepPortable(bits + i / 64, factor, values + i, base + i, weight, out + i,
               count - i);
}

CAIRN_AVX2 void AddLanesAvx2(const float* values, const uint64_t* bits,
                             size_t count, double* before, double* after) {
  static_assert(kLanes == 16);
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256d all[4], kept[4];
  for (int k = 0; k < 4; ++k) {
    all[k] = _mm256_loadu_pd(before + 4 * k);
    kept[k] = _mm256_loadu_pd(after + 4 * k);
  }
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const auto word = static_cast<uint32_t>(bits[i / 64] >> (i % 64));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256 value =
          _mm256_and_ps(_mm256_loadu_ps(values + i + 8 * half), magnitude);
      const __m256 chosen = _mm256_and_ps(value, LanesOf(word >> (8 * half)));
      const int k = 2 * half;
      all[k] =
          _mm256_add_pd(all[k], _mm256_cvtps_pd(_mm256_castps256_ps128(value)));
      all[k + 1] = _mm256_add_pd(
          all[k + 1], _mm256_cvtps_pd(_mm256_extractf128_ps(value, 1)));
      kept[k] = _mm256_add_pd(kept[k],
                              _mm256_cvtps_pd(_mm256_castps256_ps128(chosen)));
      kept[k + 1] = _mm256_add_pd(
          kept[k + 1], _mm256_cvtps_pd(_mm256_extractf128_ps(chosen, 1)));
    }
  }
  for (int k = 0; k < 4; ++k) {
    _mm256_storeu_pd(before + 4 * k, all[k]);
    _mm256_storeu_pd(after + 4 * k, kept[k]);
  }
  AddLanes(values, bits, i, count, before, after);
}

CAIRN_AVX2 void PackAvx2(const uint32_t* words, uint64_t* bits, size_t count) {
  size_t i = 0;
  for (; i + 64 <= count; i += 64) {
    uint64_t zeros = 0;
    for (size_t k = 0; k < 64; k += 8) {
      const auto* at = reinterpret_cast<const __m256i*>(words + i + k);
      const __m256i is_zero =
          _mm256_cmpeq_epi32(_mm256_loadu_si256(at), _mm256_setzero_si256());
      const auto byte = static_cast<uint32_t>(
          _mm256_movemask_ps(_mm256_castsi256_ps(is_zero)));
      zeros |= uint64_t{byte} << k;
    }
    bits[i / 64] = ~zeros;
  }
  PackFrom(i, words, bits, count);
}

constexpr Kernels kAvx2 = {ScaleAvx2, KeepAvx2, AddLanesAvx2, PackAvx2};

const Kernels& Best() {
  static const Kernels& best = WidestOf(kPortable, kAvx2, kAvx2);
  return best;
}

#else

const Kernels& Best() { return kPortable; }

#endif

}  // namespace

void ScaleKept(const uint64_t* bits, float factor, float* values,
               size_t count) {
  Best().scale_kept(bits, factor, values, count);
}

void KeepDifference(const uint64_t* bits, float factor, const float* values,
                    const float* base, float weight, float* out, size_t count) {
  Best().keep_difference(bits, factor, values, base, weight, out, count);
}

void AddL1Kept(const float* values, const uint64_t* bits, size_t count,
               double& before, double& after) {
  for (size_t begin = 0; begin < count; begin += kSumBlock) {
    const size_t block = std::min(kSumBlock, count - begin);
    double all[kLanes] = {}, kept[kLanes] = {};
    Best().add_lanes(values + begin, bits + begin / 64, block, all, kept);
    before += TotalOfLanes(all);
    after += TotalOfLanes(kept);
  }
}

void PackMask(const uint32_t* words, uint64_t* bits, size_t count) {
  Best().pack(words, bits, count);
}

}  // namespace cairn
