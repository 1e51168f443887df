#include "merge/method/counter_random.h"

#include <algorithm>
#include <cstring>

#include "core/base/log.h"
#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {
namespace {

// Blocks computed side by side: those of a group, which needs no shuffling.
constexpr size_t kWidth = kPhiloxWidth;
constexpr size_t kGroup = kPhiloxGroup;

uint64_t Mix(uint64_t x) {  // the finaliser of SplitMix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

PhiloxBlock Philox(const uint32_t (&counter)[4], uint64_t key) {
  uint32_t c[4];
  std::copy_n(counter, 4, c);
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    PhiloxRound(c[0], c[1], c[2], c[3], k0, k1);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

uint64_t RandomKey(uint64_t seed, uint64_t input, absl::string_view tensor) {
  uint64_t key = Mix(seed + 0x9e3779b97f4a7c15u);
  key = Mix(key ^ input);
  for (char c : tensor) key = Mix(key ^ static_cast<unsigned char>(c));
  return key;
}

namespace {

// Group `group` of the stream: kWidth blocks with counters from
// group * kWidth on.
using GroupFunction = void (*)(uint64_t key, uint64_t group, uint32_t* out);

void GroupPortable(uint64_t key, uint64_t group, uint32_t* out) {
  uint32_t* c0 = out;
  uint32_t* c1 = out + kWidth;
  uint32_t* c2 = out + 2 * kWidth;
  uint32_t* c3 = out + 3 * kWidth;
  for (size_t i = 0; i < kWidth; ++i) {
    const uint64_t block = group * kWidth + i;
    c0[i] = static_cast<uint32_t>(block);
    c1[i] = static_cast<uint32_t>(block >> 32);
    c2[i] = 0;
    c3[i] = 0;
  }
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    for (size_t i = 0; i < kWidth; ++i) {
      PhiloxRound(c0[i], c1[i], c2[i], c3[i], k0, k1);
    }
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
}

// Which words of a group are below `threshold`, a bit each.
using MaskFunction = uint64_t (*)(uint64_t key, uint64_t group,
                                  uint32_t threshold);

uint64_t MaskOf(const uint32_t* words, uint32_t threshold) {
  uint64_t mask = 0;
  for (size_t i = 0; i < kGroup; ++i) {
    mask |= uint64_t{words[i] < threshold} << i;
  }
  return mask;
}

uint64_t MaskPortable(uint64_t key, uint64_t group, uint32_t threshold) {
  uint32_t words[kGroup];
  GroupPortable(key, group, words);
  return MaskOf(words, threshold);
}

#if defined(__x86_64__)

// The rounds of element_math.h by hand: compilers widen all factors to 64 bits
// first, which takes four times as long.

// The blocks of a group differ in the low bits of their counters alone.
static_assert(kWidth == 16);

__attribute__((target("avx512f"))) inline __m512i All512(uint32_t value) {
  return _mm512_set1_epi32(static_cast<int>(value));
}
// The plain forms of these two make gcc 12 warn about its own header.
__attribute__((target("avx512f"))) inline __m512i MultiplyEven(__m512i a,
                                                               __m512i b) {
  return _mm512_maskz_mul_epu32(0xff, a, b);
}
__attribute__((target("avx512f"))) inline __m512i OddToEven(__m512i a) {
  return _mm512_maskz_srli_epi64(0xff, a, 32);
}
__attribute__((target("avx2"))) inline __m256i All256(uint32_t value) {
  return _mm256_set1_epi32(static_cast<int>(value));
}

__attribute__((target("avx512f"))) void GroupAvx512(uint64_t key,
                                                    uint64_t group,
                                                    uint32_t* out) {
  constexpr __mmask16 kOdd = 0xaaaa, kEven = 0x5555;
  const uint64_t first = group * kWidth;
  __m512i c0 = _mm512_add_epi32(
      All512(static_cast<uint32_t>(first)),
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  __m512i c1 = All512(static_cast<uint32_t>(first >> 32));
  __m512i c2 = _mm512_setzero_si512(), c3 = c2;
  const __m512i m0 = All512(kPhiloxFactor0), m1 = All512(kPhiloxFactor1);
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const __m512i even0 = MultiplyEven(c0, m0);
    const __m512i odd0 = MultiplyEven(OddToEven(c0), m0);
    const __m512i even1 = MultiplyEven(c2, m1);
    const __m512i odd1 = MultiplyEven(OddToEven(c2), m1);
    // Upper halves of the products of even lanes go one lane down, lower
    // halves of those of odd lanes one up.
    const __m512i high0 =
        _mm512_mask_shuffle_epi32(odd0, kEven, even0, _MM_PERM_DDBB);
    const __m512i high1 =
        _mm512_mask_shuffle_epi32(odd1, kEven, even1, _MM_PERM_DDBB);
    c0 = _mm512_xor_si512(_mm512_xor_si512(high1, c1), All512(k0));
    c1 = _mm512_mask_shuffle_epi32(even1, kOdd, odd1, _MM_PERM_CCAA);
    c2 = _mm512_xor_si512(_mm512_xor_si512(high0, c3), All512(k1));
    c3 = _mm512_mask_shuffle_epi32(even0, kOdd, odd0, _MM_PERM_CCAA);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  _mm512_storeu_si512(out, c0);
  _mm512_storeu_si512(out + kWidth, c1);
  _mm512_storeu_si512(out + 2 * kWidth, c2);
  _mm512_storeu_si512(out + 3 * kWidth, c3);
}

__attribute__((target("avx512f"))) uint64_t MaskAvx512(uint64_t key,
                                                       uint64_t group,
                                                       uint32_t threshold) {
  uint32_t words[kGroup];
  GroupAvx512(key, group, words);
  const __m512i bound = All512(threshold);
  uint64_t mask = 0;
  for (size_t w = 0; w < 4; ++w) {
    const __m512i word = _mm512_loadu_si512(words + w * kWidth);
    mask |= uint64_t{_mm512_cmplt_epu32_mask(word, bound)} << (w * kWidth);
  }
  return mask;
}

// Eight blocks from block `first` on: blocks 0, 2, 4, 6 in the low halves of
// the 64-bit lanes of one vector, the others in those of another, so that the
// halves of products need no shuffling. What the high halves hold is not used.
__attribute__((target("avx2"))) inline void EightBlocks(uint64_t key,
                                                        uint64_t first,
                                                        __m256i (&words)[4]) {
  const __m256i m0 = All256(kPhiloxFactor0), m1 = All256(kPhiloxFactor1);
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  // Of the first two rounds only what differs between blocks: their counters
  // differ in the first word alone, and two words are zeros.
  const uint32_t a = static_cast<uint32_t>(first >> 32) ^ k0;
  const uint64_t p = uint64_t{kPhiloxFactor0} * a;
  const auto p_high = static_cast<uint32_t>(p >> 32);
  const __m256i keys = All256(k1);
  k0 += kPhiloxWeyl0;
  k1 += kPhiloxWeyl1;
  const __m256i next_keys = All256(p_high ^ k1);
  const __m256i counters = All256(static_cast<uint32_t>(first));
  __m256i c0[2], c1[2], c2[2], c3[2];
#pragma GCC unroll 2
  for (int odd = 0; odd < 2; ++odd) {
    const __m256i counter = _mm256_add_epi32(
        counters,
        _mm256_setr_epi32(odd, 0, odd + 2, 0, odd + 4, 0, odd + 6, 0));
    const __m256i p0 = _mm256_mul_epu32(counter, m0);
    const __m256i p1 =
        _mm256_mul_epu32(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), keys), m1);
    c0[odd] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32), All256(k0));
    c1[odd] = p1;
    c2[odd] = _mm256_xor_si256(p0, next_keys);
    c3[odd] = All256(static_cast<uint32_t>(p));
  }
  for (int round = 2; round < kPhiloxRounds; ++round) {
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
    const __m256i keys0 = All256(k0), keys1 = All256(k1);
#pragma GCC unroll 2
    for (int odd = 0; odd < 2; ++odd) {
      const __m256i p0 = _mm256_mul_epu32(c0[odd], m0);
      const __m256i p1 = _mm256_mul_epu32(c2[odd], m1);
      c0[odd] = _mm256_xor_si256(_mm256_srli_epi64(p1, 32),
                                 _mm256_xor_si256(c1[odd], keys0));
      c1[odd] = p1;
      c2[odd] = _mm256_xor_si256(_mm256_srli_epi64(p0, 32),
                                 _mm256_xor_si256(c3[odd], keys1));
      c3[odd] = p0;
    }
  }
  constexpr int kOdd = 0xaa;
  const auto joined = [&](const __m256i(&c)[2])
      __attribute__((target("avx2"))) {
    return _mm256_blend_epi32(c[0], _mm256_slli_epi64(c[1], 32), kOdd);
  };
  words[0] = joined(c0);
  words[1] = joined(c1);
  words[2] = joined(c2);
  words[3] = joined(c3);
}

__attribute__((target("avx2"))) void GroupAvx2(uint64_t key, uint64_t group,
                                               uint32_t* out) {
  for (size_t half = 0; half < kWidth; half += 8) {
    __m256i words[4];
    EightBlocks(key, group * kWidth + half, words);
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; ++w) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + w * kWidth + half),
                          words[w]);
    }
  }
}

__attribute__((target("avx2"))) uint64_t MaskAvx2(uint64_t key, uint64_t group,
                                                  uint32_t threshold) {
  // Words are compared as signed numbers, half of the range lower.
  const __m256i middle = All256(0x80000000u);
  const __m256i bound = All256(threshold ^ 0x80000000u);
  uint64_t mask = 0;
  for (size_t half = 0; half < kWidth; half += 8) {
    __m256i words[4];
    EightBlocks(key, group * kWidth + half, words);
#pragma GCC unroll 4
    for (size_t w = 0; w < 4; ++w) {
      const __m256i is_below =
          _mm256_cmpgt_epi32(bound, _mm256_xor_si256(words[w], middle));
      const auto byte = static_cast<uint32_t>(
          _mm256_movemask_ps(_mm256_castsi256_ps(is_below)));
      mask |= uint64_t{byte} << (w * kWidth + half);
    }
  }
  return mask;
}

GroupFunction BestGroup() {
  static const GroupFunction best =
      WidestOf<GroupFunction>(GroupPortable, GroupAvx2, GroupAvx512);
  return best;
}

MaskFunction BestMask() {
  static const MaskFunction best =
      WidestOf<MaskFunction>(MaskPortable, MaskAvx2, MaskAvx512);
  return best;
}

#else

GroupFunction BestGroup() { return GroupPortable; }
MaskFunction BestMask() { return MaskPortable; }

#endif

}  // namespace

void RandomWords(uint64_t key, int64_t first, uint32_t* out, size_t count) {
  const GroupFunction fill_group = BestGroup();
  uint32_t words[kGroup];
  while (count > 0) {
    const auto group = static_cast<uint64_t>(first) / kGroup;
    const size_t skipped = static_cast<uint64_t>(first) % kGroup;
    const size_t n = std::min(count, kGroup - skipped);
    if (n == kGroup) {
      fill_group(key, group, out);
    } else {
      fill_group(key, group, words);
      std::memcpy(out, words + skipped, n * sizeof(uint32_t));
    }
    first += static_cast<int64_t>(n);
    out += n;
    count -= n;
  }
}

void RandomMask(uint64_t key, int64_t first, uint32_t threshold, uint64_t* bits,
                size_t count) {
  static_assert(kGroup == 64);
  CAIRN_CHECK(first % 64 == 0);
  const MaskFunction mask_of = BestMask();
  const auto group = static_cast<uint64_t>(first) / kGroup;
  for (size_t i = 0; i * kGroup < count; ++i) {
    bits[i] = mask_of(key, group + i, threshold);
  }
}

}  // namespace cairn
