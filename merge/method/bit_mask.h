#ifndef CAIRN_MERGE_METHOD_BIT_MASK_H_
#define CAIRN_MERGE_METHOD_BIT_MASK_H_

#include <cstddef>
#include <cstdint>

namespace cairn {

// Which elements of a range are kept, a bit each: element i is bit i % 64 of
// word i / 64. Results have the same bits on every machine.

inline constexpr size_t MaskWords(size_t count) { return (count + 63) / 64; }

// values[i] = factor * values[i] where its bit is set, else 0.
void ScaleKept(const uint64_t* bits, float factor, float* values, size_t count);

// out = weight * (factor * (values - base) where its bit is set, else 0).
void KeepDifference(const uint64_t* bits, float factor, const float* values,
                    const float* base, float weight, float* out, size_t count);

// before += sum of |values|, after += sum of those whose bit is set; as
// AddL1() sums.
void AddL1Kept(const float* values, const uint64_t* bits, size_t count,
               double& before, double& after);

// Sets the bits of words[i] != 0, and clears the others.
void PackMask(const uint32_t* words, uint64_t* bits, size_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_BIT_MASK_H_
