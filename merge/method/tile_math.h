#ifndef CAIRN_MERGE_METHOD_TILE_MATH_H_
#define CAIRN_MERGE_METHOD_TILE_MATH_H_

#include <cstddef>

// A function that goes into each of its callers, and so into every clone of
// them.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {

// Inner loops over a tile. Every product and sum is rounded on its own, so
// results are the same on every machine. Pointers of one call may not overlap
// unless they are equal.

// Sums over a tensor are taken in blocks of this many elements; ranges that
// are summed one after the other hold whole blocks, but for the last.
inline constexpr size_t kSumBlock = 4096;
// A block is summed in this many lanes, element i of it in lane i % kSumLanes,
// which are then added in order.
inline constexpr size_t kSumLanes = 16;
double TotalOfLanes(const double* lanes);

// out = a - b
void Subtract(const float* a, const float* b, float* out, size_t count);
// out = a + b
void Add(const float* a, const float* b, float* out, size_t count);
// out = factor * a
void Scale(float factor, const float* a, float* out, size_t count);
// sum += factor * a
void AddScaledTo(float factor, const float* a, float* sum, size_t count);
// out = |a|
void Magnitude(const float* a, float* out, size_t count);

// total += sum of a*b, in double.
void AddDot(const float* a, const float* b, size_t count, double& total);
// Of every pair i >= j of `n` tensors, less `base` unless that is null:
// totals[i * (i + 1) / 2 + j] += sum of a[i]*a[j] over at most kSumBlock
// elements, as AddDot() of the differences.
void AddDots(const float* const* a, size_t n, const float* base, size_t count,
             double* totals);
// total += sum of |a|, in double.
void AddL1(const float* a, size_t count, double& total);

// out = base + factor * the sum of weights[k] * (a[k] - base), in order.
void AddTaskVectors(const float* const* a, const float* weights, size_t n,
                    const float* base, float factor, float* out, size_t count);

// out = base + factor * the sum of `n` deltas, in order.
void AddDeltas(const float* const* d, size_t n, const float* base, float factor,
               float* out, size_t count);

// out = base + factor * the part of `n` weighted deltas that agrees: the
// elected sign of an element is that of their sum, + when that is zero, and
// those of that sign are summed; when `is_normalized`, over the sum of their
// weights, unless that is zero.
void AddAgreeingDeltas(const float* const* d, const float* weights, size_t n,
                       bool is_normalized, const float* base, float factor,
                       float* out, size_t count);

// The same of the deltas weights[k] * (a[k] - base).
void AddAgreeingTaskVectors(const float* const* a, const float* weights,
                            size_t n, bool is_normalized, const float* base,
                            float factor, float* out, size_t count);

// The part of deltas on which inputs agree when signs are elected by them as
// they are, before their weights: mixed is the weighted sum of those of the
// elected sign over their number.
void MeanOfAgreeing(const float* const* d, const float* weights, size_t n,
                    float* mixed, size_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_TILE_MATH_H_
