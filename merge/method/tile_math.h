#ifndef CAIRN_MERGE_METHOD_TILE_MATH_H_
#define CAIRN_MERGE_METHOD_TILE_MATH_H_

#include <cstddef>

namespace cairn {

// Inner loops over a tile. Every product and sum is rounded on its own, so
// results are the same on every machine. Pointers of one call may not overlap
// unless they are equal.

// Sums over a tensor are taken in blocks of this many elements; ranges that
// are summed one after the other hold whole blocks, but for the last.
inline constexpr size_t kSumBlock = 4096;

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
// total += sum of |a|, in double.
void AddL1(const float* a, size_t count, double& total);

// The part of elements on which inputs agree. `d` are `n` weighted deltas of
// `count` elements each; the elected sign of an element is that of their sum,
// + when that is zero. mixed: sum of the deltas of that sign; divisor: sum of
// their weights.
void SumAgreeing(const float* const* d, const float* weights, size_t n,
                 float* mixed, float* divisor, size_t count);

// Likewise with signs elected by the deltas as they are, before their weights:
// mixed is the weighted sum of those of the elected sign over their number.
void MeanOfAgreeing(const float* const* d, const float* weights, size_t n,
                    float* mixed, size_t count);

// values /= divisor, where divisor is not zero.
void DivideWhereNotZero(const float* divisor, float* values, size_t count);

}  // namespace cairn

#endif  // CAIRN_MERGE_METHOD_TILE_MATH_H_
