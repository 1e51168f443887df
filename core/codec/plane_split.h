#ifndef CAIRN_CORE_CODEC_PLANE_SPLIT_H_
#define CAIRN_CORE_CODEC_PLANE_SPLIT_H_

#include <cstddef>

namespace cairn {

// Takes `count` little-endian elements of `width` bytes (1, 2, 4 or 8) apart:
// byte p of element i, rotated left by one bit when wider than a byte, goes to
// planes[p * count + i]. Neither pointer need be aligned.
void SplitPlanes(const char* elements, size_t count, int width, char* planes);

// The inverse; planes[p] has the `count` bytes of plane p.
void JoinPlanes(const char* const planes[8], size_t count, int width,
                char* elements);

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_PLANE_SPLIT_H_
