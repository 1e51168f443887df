#include "merge/method/counter_random.h"

#include <algorithm>
#include <cstring>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"

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

namespace internal {

// Group `group` of the stream: kWidth blocks with counters from
// group * kWidth on.
CAIRN_VECTOR_CLONES void PhiloxGroup(uint64_t key, uint64_t group,
                                     uint32_t* out) {
  uint32_t c0[kWidth], c1[kWidth], c2[kWidth], c3[kWidth];
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
  std::memcpy(out, c0, sizeof(c0));
  std::memcpy(out + kWidth, c1, sizeof(c1));
  std::memcpy(out + 2 * kWidth, c2, sizeof(c2));
  std::memcpy(out + 3 * kWidth, c3, sizeof(c3));
}

}  // namespace internal

void RandomWords(uint64_t key, int64_t first, uint32_t* out, size_t count) {
  uint32_t words[kGroup];
  while (count > 0) {
    const auto group = static_cast<uint64_t>(first) / kGroup;
    const size_t skipped = static_cast<uint64_t>(first) % kGroup;
    const size_t n = std::min(count, kGroup - skipped);
    if (n == kGroup) {
      internal::PhiloxGroup(key, group, out);
    } else {
      internal::PhiloxGroup(key, group, words);
      std::memcpy(out, words + skipped, n * sizeof(uint32_t));
    }
    first += static_cast<int64_t>(n);
    out += n;
    count -= n;
  }
}

}  // namespace cairn
