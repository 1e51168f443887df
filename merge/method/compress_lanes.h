#ifndef CAIRN_MERGE_METHOD_COMPRESS_LANES_H_
#define CAIRN_MERGE_METHOD_COMPRESS_LANES_H_

#if defined(__x86_64__)

#include <immintrin.h>

#include <array>
#include <cstdint>

namespace cairn {
namespace internal {

// For each mask of eight lanes those that are set, in order, a byte each.
constexpr std::array<uint64_t, 256> MakeLaneLists() {
  std::array<uint64_t, 256> lists = {};
  for (uint64_t mask = 0; mask < 256; ++mask) {
    int at = 0;
    for (uint64_t lane = 0; lane < 8; ++lane) {
      if ((mask >> lane & 1) != 0) lists[mask] |= lane << (8 * at++);
    }
  }
  return lists;
}
inline constexpr std::array<uint64_t, 256> kLaneLists = MakeLaneLists();

}  // namespace internal

// The lanes whose bit of `mask`, a number below 256, is set come first, in
// order; what follows has no meaning. What AVX-512 has an instruction for.
__attribute__((target("avx2"))) inline __m256i CompressLanes(__m256i lanes,
                                                             uint32_t mask) {
  const __m128i list = _mm_loadl_epi64(
      reinterpret_cast<const __m128i*>(&internal::kLaneLists[mask]));
  return _mm256_permutevar8x32_epi32(lanes, _mm256_cvtepu8_epi32(list));
}

}  // namespace cairn

#endif  // defined(__x86_64__)

#endif  // CAIRN_MERGE_METHOD_COMPRESS_LANES_H_
