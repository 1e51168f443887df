#ifndef CAIRN_CORE_TENSOR_FLOAT_BITS_H_
#define CAIRN_CORE_TENSOR_FLOAT_BITS_H_

#include <cstdint>

#include "core/base/host_device.h"

namespace cairn {

// F16 and BF16 as floats and back, one element at a time, for processors and
// GPUs. To float is exact; back rounds to nearest, ties to even, makes what is
// too large infinity and keeps NaN a NaN. No branches, so that loops over them
// vectorise.

CAIRN_HOST_DEVICE inline uint32_t BitsOfFloat(float value) {
  return __builtin_bit_cast(uint32_t, value);
}

CAIRN_HOST_DEVICE inline float FloatOfBits(uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}

CAIRN_HOST_DEVICE inline float BfloatToFloat(uint16_t bfloat) {
  return FloatOfBits(static_cast<uint32_t>(bfloat) << 16);
}

CAIRN_HOST_DEVICE inline uint16_t FloatToBfloat(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40U;
  return static_cast<uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? quiet
                                                                  : rounded);
}

// These two are Fabian Giesen's conversions.
CAIRN_HOST_DEVICE inline float HalfToFloat(uint16_t half) {
  constexpr uint32_t kExponent = 0x7c00U << 13;
  uint32_t bits = (half & 0x7fffU) << 13;
  const uint32_t exponent = bits & kExponent;
  bits += (127U - 15U) << 23;
  const uint32_t special = bits + ((128U - 16U) << 23);
  const float small = FloatOfBits(bits + (1U << 23)) - FloatOfBits(113U << 23);
  bits = exponent == kExponent ? special : bits;
  bits = exponent == 0 ? BitsOfFloat(small) : bits;
  return FloatOfBits(bits | ((half & 0x8000U) << 16));
}

CAIRN_HOST_DEVICE inline uint16_t FloatToHalf(float value) {
  constexpr uint32_t kInfinity = 255U << 23;
  constexpr uint32_t kTooLarge = (127U + 16U) << 23;
  constexpr uint32_t kMagic = (127U - 15U + 23U - 10U + 1U) << 23;
  uint32_t bits = BitsOfFloat(value);
  const uint32_t sign = bits & 0x80000000U;
  bits ^= sign;
  const uint32_t special = bits > kInfinity ? 0x7e00U : 0x7c00U;
  const uint32_t small =
      BitsOfFloat(FloatOfBits(bits) + FloatOfBits(kMagic)) - kMagic;
  const uint32_t odd = (bits >> 13) & 1U;
  const uint32_t normal = (bits - ((127U - 15U) << 23) + 0xfffU + odd) >> 13;
  uint32_t out = bits < (113U << 23) ? small : normal;
  out = bits >= kTooLarge ? special : out;
  return static_cast<uint16_t>(out | (sign >> 16));
}

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_FLOAT_BITS_H_
