#include "core/codec/plane_split.h"

#include <bit>
#include <cstdint>
#include <cstring>

namespace cairn {
namespace {

static_assert(std::endian::native == std::endian::little);

template <typename T>
void Split(const char* elements, size_t count, char* planes) {
  // A tile stays in the first-level cache while each plane is taken from it.
  constexpr size_t kTile = 4096 / sizeof(T);
  T rotated[kTile];
  for (size_t begin = 0; begin < count; begin += kTile) {
    const size_t n = count - begin < kTile ? count - begin : kTile;
    std::memcpy(rotated, elements + begin * sizeof(T), n * sizeof(T));
    for (size_t i = 0; i < n; ++i) rotated[i] = std::rotl(rotated[i], 1);
    for (size_t p = 0; p < sizeof(T); ++p) {
      char* plane = planes + p * count + begin;
      for (size_t i = 0; i < n; ++i) {
        plane[i] = static_cast<char>(rotated[i] >> (8 * p));
      }
    }
  }
}

template <typename T>
void Join(const char* const planes[8], size_t count, char* elements) {
  constexpr size_t kTile = 4096 / sizeof(T);
  T rotated[kTile];
  for (size_t begin = 0; begin < count; begin += kTile) {
    const size_t n = count - begin < kTile ? count - begin : kTile;
    std::memset(rotated, 0, n * sizeof(T));
    for (size_t p = 0; p < sizeof(T); ++p) {
      const char* plane = planes[p] + begin;
      for (size_t i = 0; i < n; ++i) {
        rotated[i] = static_cast<T>(
            rotated[i] |
            static_cast<T>(static_cast<T>(static_cast<uint8_t>(plane[i]))
                           << (8 * p)));
      }
    }
    for (size_t i = 0; i < n; ++i) rotated[i] = std::rotr(rotated[i], 1);
    std::memcpy(elements + begin * sizeof(T), rotated, n * sizeof(T));
  }
}

}  // namespace

void SplitPlanes(const char* elements, size_t count, int width, char* planes) {
  if (count == 0) return;
  if (width == 1) std::memcpy(planes, elements, count);
  if (width == 2) Split<uint16_t>(elements, count, planes);
  if (width == 4) Split<uint32_t>(elements, count, planes);
  if (width == 8) Split<uint64_t>(elements, count, planes);
}

void JoinPlanes(const char* const planes[8], size_t count, int width,
                char* elements) {
  if (count == 0) return;
  if (width == 1) std::memcpy(elements, planes[0], count);
  if (width == 2) Join<uint16_t>(planes, count, elements);
  if (width == 4) Join<uint32_t>(planes, count, elements);
  if (width == 8) Join<uint64_t>(planes, count, elements);
}

}  // namespace cairn
