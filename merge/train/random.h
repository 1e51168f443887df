#ifndef CAIRN_MERGE_TRAIN_RANDOM_H_
#define CAIRN_MERGE_TRAIN_RANDOM_H_

#include <cmath>
#include <cstdint>
#include <numbers>

namespace cairn {

// Random numbers by counter: draw `i` of a stream is a pure function of seed,
// stream and i (SplitMix64's finaliser, Steele et al. 2014). So a run that
// goes on at step n needs no generator state, and draws may be made in any
// order by any thread.
class CounterRandom {
 public:
  CounterRandom(uint64_t seed, uint64_t stream)
      : key_(Mix(Mix(seed + kGamma) + stream * kGamma)) {}

  uint64_t Bits(uint64_t i) const { return Mix(key_ + (i + 1) * kGamma); }

  // In [0, 1), with 53 bits.
  double Uniform(uint64_t i) const {
    return static_cast<double>(Bits(i) >> 11) * 0x1.0p-53;
  }

  // In [0, bound), bound > 0; the bias is below bound / 2^53.
  int64_t Below(uint64_t i, int64_t bound) const {
    return static_cast<int64_t>(Uniform(i) * static_cast<double>(bound));
  }

  // Standard normal (Box-Muller); uses the draws 2i and 2i + 1.
  double Normal(uint64_t i) const {
    const double radius = std::sqrt(-2 * std::log1p(-Uniform(2 * i)));
    return radius * std::cos(2 * std::numbers::pi * Uniform(2 * i + 1));
  }

 private:
  static constexpr uint64_t kGamma = 0x9E3779B97F4A7C15;

  static uint64_t Mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }

  uint64_t key_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_RANDOM_H_
