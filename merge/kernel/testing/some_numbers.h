#ifndef CAIRN_MERGE_KERNEL_TESTING_SOME_NUMBERS_H_
#define CAIRN_MERGE_KERNEL_TESTING_SOME_NUMBERS_H_

#include <cstdint>
#include <vector>

namespace cairn::testing {

// Numbers in [-1, 1), the same for the same seed.
inline std::vector<float> SomeNumbers(int64_t count, uint32_t seed) {
  std::vector<float> out;
  uint32_t state = seed;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    out.push_back(static_cast<float>(state >> 8) / (1 << 23) - 1);
  }
  return out;
}

}  // namespace cairn::testing

#endif  // CAIRN_MERGE_KERNEL_TESTING_SOME_NUMBERS_H_
