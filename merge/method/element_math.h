#ifndef CAIRN_MERGE_METHOD_ELEMENT_MATH_H_
#define CAIRN_MERGE_METHOD_ELEMENT_MATH_H_

#include <math.h>

#include <cstdint>

#include "core/base/host_device.h"

namespace cairn {

// The arithmetic of elementwise methods, one step of one element at a time:
// loops over strips on a processor and kernels on a GPU use these very
// functions, so that their results have the same bits. To be compiled without
// contraction of a*b+c and without fast math.

// The larger and the smaller; the first where one is NaN.
CAIRN_HOST_DEVICE inline float MaxOf(float a, float b) { return a < b ? b : a; }
CAIRN_HOST_DEVICE inline float MinOf(float a, float b) { return b < a ? b : a; }

// The value where it is kept, else 0. Written so that compilers see no branch,
// which would keep them from working on several elements at a time.
CAIRN_HOST_DEVICE inline float KeptIf(bool is_kept, float value) {
  const uint32_t mask = is_kept ? ~0u : 0u;
  return __builtin_bit_cast(float, __builtin_bit_cast(uint32_t, value) & mask);
}

// TIES. The sign that a sum of deltas elects: + when it is zero.
CAIRN_HOST_DEVICE inline float ElectedSign(float sum) {
  return sum >= 0 ? 1.0f : -1.0f;
}
// Adds a weighted delta and its weight where it has the elected sign.
CAIRN_HOST_DEVICE inline void AddAgreeing(float delta, float weight, float sign,
                                          float& mixed, float& divisor) {
  const bool agrees = delta * sign > 0;
  mixed += KeptIf(agrees, delta);
  divisor += KeptIf(agrees, weight);
}
CAIRN_HOST_DEVICE inline float OverNonZero(float value, float divisor) {
  return value / (divisor == 0 ? 1.0f : divisor);
}

// Nearswap: `a` moved towards `b` by min(1, t / distance).
CAIRN_HOST_DEVICE inline float NearswapElement(float t, float a, float b) {
  const float far = MaxOf(fabsf(a - b), 1e-6f);
  const float weight = MinOf(MaxOf(t / far, 0.0f), 1.0f);
  return weight * b + (1.0f - weight) * a;
}

// RAM: counts an input that changed the element by `delta`, and adds it to
// what is shared and, times its factor, to what is unique.
CAIRN_HOST_DEVICE inline void AddRam(float delta, float factor, float epsilon,
                                     float& users, float& shared,
                                     float& unique) {
  const bool is_used = fabsf(delta) > epsilon;
  users += KeptIf(is_used, 1.0f);
  shared += KeptIf(is_used, delta);
  unique += KeptIf(is_used, delta * factor);
}
CAIRN_HOST_DEVICE inline float RamElement(float base, float users, float shared,
                                          float unique) {
  const float mean = shared / MaxOf(users, 1.0f);
  return base + (users > 1 ? mean : unique);
}

// MagMax: the one of larger magnitude; of opposite ones of equal magnitude the
// positive, in any order.
CAIRN_HOST_DEVICE inline float LargerMagnitude(float most, float tau) {
  const float a = fabsf(tau), b = fabsf(most);
  return (a > b) | ((a == b) & (tau > most)) ? tau : most;
}

// Consensus: whether an input is among those that use the element.
CAIRN_HOST_DEVICE inline bool IsUser(float tau, float sum, float share) {
  return fabsf(tau) >= share * fabsf(sum - tau);
}

// Ascending, with NaN last: the order of medians and trimmed means.
CAIRN_HOST_DEVICE inline bool ComesBefore(float a, float b) {
  return (a < b) | ((a == a) & (b != b));
}

// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3"): one round of a block of four words, and the keys of rounds.
inline constexpr uint32_t kPhiloxFactor0 = 0xD2511F53u;
inline constexpr uint32_t kPhiloxFactor1 = 0xCD9E8D57u;
CAIRN_HOST_DEVICE inline void PhiloxRound(uint32_t& c0, uint32_t& c1,
                                          uint32_t& c2, uint32_t& c3,
                                          uint32_t k0, uint32_t k1) {
  const uint64_t p0 = uint64_t{kPhiloxFactor0} * c0;
  const uint64_t p1 = uint64_t{kPhiloxFactor1} * c2;
  c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
  c1 = static_cast<uint32_t>(p1);
  c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
  c3 = static_cast<uint32_t>(p0);
}
inline constexpr int kPhiloxRounds = 10;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;

// The words of a stream come in groups of this many blocks: word w of block b
// of a group belongs to element w * kPhiloxWidth + b of it.
inline constexpr uint32_t kPhiloxWidth = 16;
inline constexpr uint32_t kPhiloxGroup = 4 * kPhiloxWidth;

// The random word of one element of the stream of `key`.
CAIRN_HOST_DEVICE inline uint32_t RandomWord(uint64_t key, uint64_t element) {
  const uint64_t group = element / kPhiloxGroup;
  const auto within = static_cast<uint32_t>(element % kPhiloxGroup);
  const uint64_t block = group * kPhiloxWidth + within % kPhiloxWidth;
  auto c0 = static_cast<uint32_t>(block);
  auto c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = 0, c3 = 0;
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    PhiloxRound(c0, c1, c2, c3, k0, k1);
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  const uint32_t word = within / kPhiloxWidth;
  return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_ELEMENT_MATH_H_
