#ifndef CAIRN_MERGE_CUDA_TILE_KERNELS_H_
#define CAIRN_MERGE_CUDA_TILE_KERNELS_H_

#include <cstdint>

#include "core/base/host_device.h"
#include "core/tensor/float_bits.h"
#include "merge/method/element_rule.h"

namespace cairn {

// How numbers are stored.
enum class FloatType : uint8_t { kF32, kF16, kBF16 };

struct TileInput {
  const void* values = nullptr;
  FloatType type = FloatType::kF32;
};

// One tile: all that a kernel has to know. Pointers are to the memory of
// whatever runs it.
struct TileLaunch {
  ElementRule rule;
  const ElementMember* members = nullptr;
  const float* weights = nullptr;
  const TileInput* inputs = nullptr;
  void* out = nullptr;
  FloatType work_type = FloatType::kF32;
  FloatType type = FloatType::kF32;  // of `out`
  uint64_t first = 0;                // element of the tensor
  uint64_t count = 0;
};

CAIRN_HOST_DEVICE inline float LoadFloat(FloatType type, const void* values,
                                         uint64_t i) {
  if (type == FloatType::kF32) return static_cast<const float*>(values)[i];
  const uint16_t bits = static_cast<const uint16_t*>(values)[i];
  return type == FloatType::kBF16 ? BfloatToFloat(bits) : HalfToFloat(bits);
}

CAIRN_HOST_DEVICE inline float RoundToType(FloatType type, float value) {
  if (type == FloatType::kF32) return value;
  return type == FloatType::kBF16 ? BfloatToFloat(FloatToBfloat(value))
                                  : HalfToFloat(FloatToHalf(value));
}

CAIRN_HOST_DEVICE inline void StoreFloat(FloatType type, float value,
                                         void* values, uint64_t i) {
  if (type == FloatType::kF32) {
    static_cast<float*>(values)[i] = value;
  } else {
    static_cast<uint16_t*>(values)[i] = type == FloatType::kBF16
                                            ? FloatToBfloat(value)
                                            : FloatToHalf(value);
  }
}

// Element i of a tile: read, rounded, merged, rounded and written.
template <ElementKind kind>
CAIRN_HOST_DEVICE inline void CombineAt(const TileLaunch& launch, uint64_t i) {
  const auto load = [&launch, i](uint32_t input) {
    const TileInput& from = launch.inputs[input];
    return RoundToType(launch.work_type, LoadFloat(from.type, from.values, i));
  };
  const float value = CombineElement<kind>(
      launch.rule, launch.members, launch.weights, launch.first + i, load);
  StoreFloat(launch.type, RoundToType(launch.work_type, value), launch.out, i);
}

}  // namespace cairn

#endif  // CAIRN_MERGE_CUDA_TILE_KERNELS_H_
