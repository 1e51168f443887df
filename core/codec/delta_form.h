#ifndef CAIRN_CORE_CODEC_DELTA_FORM_H_
#define CAIRN_CORE_CODEC_DELTA_FORM_H_

#include <cstddef>
#include <cstdint>

#include "core/codec/bit_stream.h"
#include "core/codec/delta_codec.h"

// What the encoder and the decoder of a delta's blocks share; README.md has
// the form in words.

namespace cairn {

// How a block is kept: its first byte.
enum class DeltaMethod : uint8_t {
  kUnchanged = 0,
  kDifferences = 1,
  kPlanes = 2,
  kXorPlanes = 3,
};

inline constexpr unsigned kDeltaClassBits = 5;
inline constexpr size_t kDeltaClassesMax = size_t{1} << kDeltaClassBits;
// Each class has two bytes and at most 256 numbers of at most 25 bits.
inline constexpr size_t kDeltaHeaderBitsMax =
    1 + kDeltaClassBits + kDeltaClassesMax * (16 + 256 * 25) + 32;

// Tokens of an element of this width: one more than the greatest.
inline size_t DeltaTokenLimit(ElementForm form) {
  return size_t{32} * static_cast<size_t>(form.width);
}

// Extra bits of a token: the low ones of its folded distance. Elements of 8
// bytes have up to 61.
template <typename T>
void PutExtra(BitWriter& bits, uint64_t folded, unsigned count) {
  if constexpr (sizeof(T) == 8) {
    if (count > 32) {
      bits.Put(folded & 0xffffffff, 32);
      folded >>= 32;
      count -= 32;
    }
  }
  bits.Put(folded & ((uint64_t{1} << count) - 1), count);
}

template <typename T>
uint64_t GetExtra(BitReader& bits, unsigned count) {
  if constexpr (sizeof(T) == 8) {
    if (count > 32) {
      const uint64_t low = bits.Get(32);
      return low | bits.Get(count - 32) << 32;
    }
  }
  return bits.Get(count);
}

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_DELTA_FORM_H_
