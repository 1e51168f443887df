#include "merge/kernel/product_kernels.h"

#include <algorithm>
#include <bit>

#include "core/base/vector_clones.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {
namespace {

constexpr int64_t kChunk = ProductKernels::kChunk;

template <int kRows>
void PortableTile(const float* x, const float* panel, int64_t depth,
                  const float* begin, float* out, int64_t stride) {
  constexpr int kColumns = 8;
  float sums[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) {
    const float* from = begin != nullptr ? begin : out + r * stride;
    std::copy(from, from + kColumns, sums[r]);
  }
  for (int64_t k = 0; k < depth; ++k, panel += kColumns) {
    const float* chunk = x + k / kChunk * kChunk * kRows + k % kChunk;
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < kColumns; ++c) {
        sums[r][c] = __builtin_fmaf(chunk[r * kChunk], panel[c], sums[r][c]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    std::copy(sums[r], sums[r] + kColumns, out + r * stride);
  }
}

void PortableTurn(const float* w, int64_t stride, float* panel,
                  int64_t panel_columns) {
  for (int64_t k = 0; k < 8; ++k) {
    for (int64_t c = 0; c < 8; ++c) {
      panel[k * panel_columns + c] = w[c * stride + k];
    }
  }
}

void PortableTurnBf16(const uint16_t* w, int64_t stride, float* panel,
                      int64_t panel_columns) {
  for (int64_t k = 0; k < 8; ++k) {
    for (int64_t c = 0; c < 8; ++c) {
      panel[k * panel_columns + c] =
          std::bit_cast<float>(static_cast<uint32_t>(w[c * stride + k]) << 16);
    }
  }
}

float AddPair(float x, float w, float sum) {
  const uint32_t a = std::bit_cast<uint32_t>(x);
  const uint32_t b = std::bit_cast<uint32_t>(w);
  sum = __builtin_fmaf(std::bit_cast<float>(a & 0xFFFF0000),
                       std::bit_cast<float>(b & 0xFFFF0000), sum);
  return __builtin_fmaf(std::bit_cast<float>(a << 16),
                        std::bit_cast<float>(b << 16), sum);
}

template <int kRows>
void PortablePairTile(const float* x, const float* panel, int64_t depth,
                      const float* begin, float* out, int64_t stride) {
  constexpr int kColumns = 8;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      float sum = begin != nullptr ? begin[c] : out[r * stride + c];
      for (int64_t k = 0; k < depth; ++k) {
        const float* chunk = x + k / kChunk * kChunk * kRows + k % kChunk;
        sum = AddPair(chunk[r * kChunk], panel[k * kColumns + c], sum);
      }
      out[r * stride + c] = sum;
    }
  }
}

constexpr ProductKernels::Tile* kPortableTiles[] = {
    nullptr, PortableTile<1>, PortableTile<2>, PortableTile<3>,
    PortableTile<4>};
constexpr ProductKernels kPortable = {4, 8, kPortableTiles, PortableTurn,
                                      PortableTurnBf16};
constexpr ProductKernels::Tile* kPortablePairTiles[] = {
    nullptr, PortablePairTile<1>, PortablePairTile<2>};
constexpr ProductKernels kPortablePairs = {2, 8, kPortablePairTiles,
                                           PortableTurn, nullptr};

#if defined(__x86_64__)

#define CAIRN_AVX2 __attribute__((target("avx2,fma")))
#define CAIRN_AVX512 __attribute__((target("avx512f,avx512dq,fma")))
#define CAIRN_AVX512_BF16 \
  __attribute__((target("avx512f,avx512dq,avx512bf16,fma")))

template <int kRows>
CAIRN_AVX2 void Avx2Tile(const float* x, const float* panel, int64_t depth,
                         const float* begin, float* out, int64_t stride) {
  __m256 sums[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* from = begin != nullptr ? begin : out + r * stride;
    sums[r][0] = _mm256_loadu_ps(from);
    sums[r][1] = _mm256_loadu_ps(from + 8);
  }
  for (; depth > 0; depth -= kChunk, x += (kRows - 1) * kChunk) {
    const float* end = x + std::min(depth, kChunk);
    const float* rest = x + kChunk;
    for (; x < end; ++x, panel += 16) {
      const __m256 first = _mm256_loadu_ps(panel);
      const __m256 second = _mm256_loadu_ps(panel + 8);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const __m256 factor = _mm256_broadcast_ss(x + r * kChunk);
        sums[r][0] = _mm256_fmadd_ps(factor, first, sums[r][0]);
        sums[r][1] = _mm256_fmadd_ps(factor, second, sums[r][1]);
      }
    }
    x = rest;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    _mm256_storeu_ps(out + r * stride, sums[r][0]);
    _mm256_storeu_ps(out + r * stride + 8, sums[r][1]);
  }
}

template <int kRows>
CAIRN_AVX512 void Avx512Tile(const float* x, const float* panel, int64_t depth,
                             const float* begin, float* out, int64_t stride) {
  __m512 sums[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* from = begin != nullptr ? begin : out + r * stride;
    sums[r][0] = _mm512_loadu_ps(from);
    sums[r][1] = _mm512_loadu_ps(from + 16);
  }
  for (; depth > 0; depth -= kChunk, x += (kRows - 1) * kChunk) {
    const float* end = x + std::min(depth, kChunk);
    const float* rest = x + kChunk;
    for (; x < end; ++x, panel += 32) {
      const __m512 first = _mm512_loadu_ps(panel);
      const __m512 second = _mm512_loadu_ps(panel + 16);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const __m512 factor = _mm512_set1_ps(x[r * kChunk]);
        sums[r][0] = _mm512_fmadd_ps(factor, first, sums[r][0]);
        sums[r][1] = _mm512_fmadd_ps(factor, second, sums[r][1]);
      }
    }
    x = rest;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(out + r * stride, sums[r][0]);
    _mm512_storeu_ps(out + r * stride + 16, sums[r][1]);
  }
}

template <int kRows>
CAIRN_AVX512_BF16 void Avx512PairTile(const float* x, const float* panel,
                                      int64_t depth, const float* begin,
                                      float* out, int64_t stride) {
  __m512 sums[kRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    const float* from = begin != nullptr ? begin : out + r * stride;
    sums[r][0] = _mm512_loadu_ps(from);
    sums[r][1] = _mm512_loadu_ps(from + 16);
  }
  for (; depth > 0; depth -= kChunk, x += (kRows - 1) * kChunk) {
    const float* end = x + std::min(depth, kChunk);
    const float* rest = x + kChunk;
    for (; x < end; ++x, panel += 32) {
      const __m512bh first = (__m512bh)_mm512_loadu_ps(panel);
      const __m512bh second = (__m512bh)_mm512_loadu_ps(panel + 16);
#pragma GCC unroll 12
      for (int r = 0; r < kRows; ++r) {
        const __m512bh factor = (__m512bh)_mm512_set1_ps(x[r * kChunk]);
        sums[r][0] = _mm512_dpbf16_ps(sums[r][0], factor, first);
        sums[r][1] = _mm512_dpbf16_ps(sums[r][1], factor, second);
      }
    }
    x = rest;
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r) {
    _mm512_storeu_ps(out + r * stride, sums[r][0]);
    _mm512_storeu_ps(out + r * stride + 16, sums[r][1]);
  }
}

// The transpose of 8 x 8: pairs of rows, pairs of pairs, halves.
CAIRN_AVX2 inline void StoreTurned(const __m256 (&rows)[8], float* panel,
                                   int64_t panel_columns) {
  __m256 pairs[8], quads[8];
#pragma GCC unroll 4
  for (int r = 0; r < 8; r += 2) {
    pairs[r] = _mm256_unpacklo_ps(rows[r], rows[r + 1]);
    pairs[r + 1] = _mm256_unpackhi_ps(rows[r], rows[r + 1]);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 8; r += 4) {
    quads[r] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0x44);
    quads[r + 1] = _mm256_shuffle_ps(pairs[r], pairs[r + 2], 0xEE);
    quads[r + 2] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], 0x44);
    quads[r + 3] = _mm256_shuffle_ps(pairs[r + 1], pairs[r + 3], 0xEE);
  }
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    _mm256_storeu_ps(panel + r * panel_columns,
                     _mm256_permute2f128_ps(quads[r], quads[r + 4], 0x20));
    _mm256_storeu_ps(panel + (r + 4) * panel_columns,
                     _mm256_permute2f128_ps(quads[r], quads[r + 4], 0x31));
  }
}

CAIRN_AVX2 void Avx2Turn(const float* w, int64_t stride, float* panel,
                         int64_t panel_columns) {
  __m256 rows[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) rows[r] = _mm256_loadu_ps(w + r * stride);
  StoreTurned(rows, panel, panel_columns);
}

CAIRN_AVX2 void Avx2TurnBf16(const uint16_t* w, int64_t stride, float* panel,
                             int64_t panel_columns) {
  __m256 rows[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    const __m128i narrow =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(w + r * stride));
    rows[r] = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
  }
  StoreTurned(rows, panel, panel_columns);
}

constexpr ProductKernels::Tile* kAvx2Tiles[] = {
    nullptr,     Avx2Tile<1>, Avx2Tile<2>, Avx2Tile<3>,
    Avx2Tile<4>, Avx2Tile<5>, Avx2Tile<6>};
constexpr ProductKernels::Tile* kAvx512Tiles[] = {
    nullptr,        Avx512Tile<1>,  Avx512Tile<2>, Avx512Tile<3>, Avx512Tile<4>,
    Avx512Tile<5>,  Avx512Tile<6>,  Avx512Tile<7>, Avx512Tile<8>, Avx512Tile<9>,
    Avx512Tile<10>, Avx512Tile<11>, Avx512Tile<12>};
constexpr ProductKernels::Tile* kAvx512PairTiles[] = {
    nullptr,           Avx512PairTile<1>,  Avx512PairTile<2>,
    Avx512PairTile<3>, Avx512PairTile<4>,  Avx512PairTile<5>,
    Avx512PairTile<6>, Avx512PairTile<7>,  Avx512PairTile<8>,
    Avx512PairTile<9>, Avx512PairTile<10>, Avx512PairTile<11>,
    Avx512PairTile<12>};
constexpr ProductKernels kAvx2 = {6, 16, kAvx2Tiles, Avx2Turn, Avx2TurnBf16};
constexpr ProductKernels kAvx512 = {12, 32, kAvx512Tiles, Avx2Turn,
                                    Avx2TurnBf16};
constexpr ProductKernels kAvx512Pairs = {12, 32, kAvx512PairTiles, Avx2Turn,
                                         nullptr};

#endif

}  // namespace

const ProductKernels& BestProductKernels() {
#if defined(__x86_64__)
  static const ProductKernels& best = WidestOf(kPortable, kAvx2, kAvx512);
  return best;
#else
  return kPortable;
#endif
}

const ProductKernels& PortableProductKernels() { return kPortable; }

const ProductKernels* PairKernels() {
#if defined(__x86_64__)
  static const bool has_pairs = __builtin_cpu_supports("avx512f") &&
                                __builtin_cpu_supports("avx512dq") &&
                                __builtin_cpu_supports("avx512bf16");
  return has_pairs ? &kAvx512Pairs : nullptr;
#else
  return nullptr;
#endif
}

const ProductKernels& PortablePairKernels() { return kPortablePairs; }

}  // namespace cairn
