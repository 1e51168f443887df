#include "merge/kernel/product_kernels.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <utility>

#include "core/base/vector_clones.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace cairn {
namespace {

constexpr int64_t kChunk = ProductKernels::kChunk;
constexpr int64_t kDepth = 512;
static_assert(kDepth % kChunk == 0);

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
constexpr ProductKernels kPortable = {
    4, 8, kDepth, kPortableTiles, PortableTurn, PortableTurnBf16};
constexpr ProductKernels::Tile* kPortablePairTiles[] = {
    nullptr, PortablePairTile<1>, PortablePairTile<2>};
constexpr ProductKernels kPortablePairs = {
    2, 8, kDepth, kPortablePairTiles, PortableTurn, nullptr};

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
constexpr ProductKernels kAvx2 = {6,          16,       kDepth,
                                  kAvx2Tiles, Avx2Turn, Avx2TurnBf16};
constexpr ProductKernels kAvx512 = {12,           32,       kDepth,
                                    kAvx512Tiles, Avx2Turn, Avx2TurnBf16};
constexpr ProductKernels kAvx512Pairs = {
    12, 32, kDepth, kAvx512PairTiles, Avx2Turn, nullptr};

// AMX: a chunk of 16 rows of x is a tile as it lies, and so are 16 rows of half
// a panel. Four sums of 16 x 16 take two of each.
#define CAIRN_AMX __attribute__((target("amx-tile,amx-bf16")))

constexpr int64_t kAmxSide = 16;
constexpr int64_t kAmxRows = 2 * kAmxSide;
constexpr int64_t kAmxColumns = 2 * kAmxSide;
// A panel of it lies in the first cache.
constexpr int64_t kAmxDepth = 256;

// What LDTILECFG reads.
struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t first_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);

CAIRN_AMX void EnterAmx() {
  static constexpr TileShapes kShapes;
  _tile_loadconfig(&kShapes);
}

CAIRN_AMX void LeaveAmx() { _tile_release(); }

// 16 rows, or 32, by a panel's columns; `from_stride` 0: all begin with the
// same.
template <bool kIsWhole>
CAIRN_AMX inline void AmxSums(const float* x, int64_t x_rows,
                              const float* panel, int64_t depth,
                              const float* from, int64_t from_stride,
                              float* out, int64_t stride) {
  const float* lower = from + kAmxSide * from_stride;
  _tile_loadd(0, from, from_stride * 4);
  _tile_loadd(1, from + kAmxSide, from_stride * 4);
  if constexpr (kIsWhole) {
    _tile_loadd(2, lower, from_stride * 4);
    _tile_loadd(3, lower + kAmxSide, from_stride * 4);
  }
  for (; depth > 0; depth -= kChunk) {
    _tile_loadd(4, x, kChunk * 4);
    _tile_loadd(6, panel, kAmxColumns * 4);
    _tile_loadd(7, panel + kAmxSide, kAmxColumns * 4);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kIsWhole) {
      _tile_loadd(5, x + kAmxSide * kChunk, kChunk * 4);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    x += x_rows * kChunk;
    panel += kChunk * kAmxColumns;
  }
  float* lower_out = out + kAmxSide * stride;
  _tile_stored(0, out, stride * 4);
  _tile_stored(1, out + kAmxSide, stride * 4);
  if constexpr (kIsWhole) {
    _tile_stored(2, lower_out, stride * 4);
    _tile_stored(3, lower_out + kAmxSide, stride * 4);
  }
}

template <int kRows>
void AmxTile(const float* x, const float* panel, int64_t depth,
             const float* begin, float* out, int64_t stride) {
  constexpr auto* kRun = AmxSums<(kRows > kAmxSide)>;
  if constexpr (kRows % kAmxSide == 0) {
    kRun(x, kRows, panel, depth, begin != nullptr ? begin : out,
         begin != nullptr ? 0 : stride, out, stride);
    return;
  }
  // All rows of the tiles, of which some are nobody's.
  float sums[kAmxRows * kAmxColumns] = {};
  for (int r = 0; begin == nullptr && r < kRows; ++r) {
    std::copy_n(out + r * stride, kAmxColumns, sums + r * kAmxColumns);
  }
  kRun(x, kRows, panel, depth, begin != nullptr ? begin : sums,
       begin != nullptr ? 0 : kAmxColumns, sums, kAmxColumns);
  for (int r = 0; r < kRows; ++r) {
    std::copy_n(sums + r * kAmxColumns, kAmxColumns, out + r * stride);
  }
}

template <size_t... kRows>
const ProductKernels& AmxKernels(std::index_sequence<kRows...>) {
  static constexpr ProductKernels::Tile* kTiles[] = {nullptr,
                                                     AmxTile<kRows + 1>...};
  static constexpr ProductKernels kKernels = {kAmxRows, kAmxColumns, kAmxDepth,
                                              kTiles,   Avx2Turn,    nullptr,
                                              EnterAmx, LeaveAmx};
  return kKernels;
}

// Asks Linux (5.16 or later) for the room that tiles take at a change of
// context, for all threads of the process.
bool MayUseAmx() {
  constexpr int kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int kTileData = 18;               // XFEATURE_XTILEDATA
#if defined(__clang__)
  return false;  // clang 14, which builds the fuzz targets, cannot ask for it
#else
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#endif
}

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

const ProductKernels* PairKernels(Bf16Instruction instruction) {
#if defined(__x86_64__)
  if (instruction == Bf16Instruction::kAmx) {
    static const bool has_amx = MayUseAmx();
    return has_amx ? &AmxKernels(std::make_index_sequence<kAmxRows>())
                   : nullptr;
  }
  if (instruction == Bf16Instruction::kAvx512) {
    static const bool has_pairs = __builtin_cpu_supports("avx512f") &&
                                  __builtin_cpu_supports("avx512dq") &&
                                  __builtin_cpu_supports("avx512bf16");
    return has_pairs ? &kAvx512Pairs : nullptr;
  }
#endif
  return nullptr;
}

const ProductKernels& PortablePairKernels() { return kPortablePairs; }

}  // namespace cairn
