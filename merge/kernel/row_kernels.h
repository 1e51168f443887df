#ifndef CAIRN_MERGE_KERNEL_ROW_KERNELS_H_
#define CAIRN_MERGE_KERNEL_ROW_KERNELS_H_

#include <cstdint>

namespace cairn {

// Another one whenever a kernel of this folder gives other bits than before:
// scores that were kept are then not paired with new ones.
inline constexpr char kKernelRevision[] = "k3";

// What a forward pass does between its matrix products, in one pass over the
// memory each. All is F32 and row by row; a result is the same bits on every
// machine, and depends on its row alone. NaN and infinities come through as
// they would in the formulas.

// out = x / sqrt(mean(x^2) + epsilon) * gain of each of `rows` rows of
// `width`. `out` may be x.
void RmsNormRows(const float* x, const float* gain, int64_t rows, int64_t width,
                 float epsilon, float* out);

// out = silu(gate) * up. Rows of gate and up are `stride` apart, those of out
// `width`. `out` may be gate where the two have the same stride.
void SiluProductRows(const float* gate, const float* up, int64_t rows,
                     int64_t width, int64_t stride, float* out);

// Turns the pairs (x[i], x[half + i]), i < half, of each row by the angles
// whose cosines and sines are the rows [half] of `cos` and `sin`; the rest of
// the `width` stays. Rows of x are `stride` apart, those of out `width`.
void RotateRows(const float* x, int64_t stride, const float* cos,
                const float* sin, int64_t rows, int64_t half, int64_t width,
                float* out);

// Writes exp(row[i] - the largest of the row), in chunks of 16 that begin
// `stride` apart in `out`, and returns their sum. `width` is a multiple of 16,
// and not all of the row is minus infinity.
float ExpChunks(const float* row, int64_t width, int64_t stride, float* out);

// Logarithm of the sum of exp(row[i]), whose terms are F32; `width` is at
// least 1.
double LogSumExp(const float* row, int64_t width);

}  // namespace cairn

#endif  // CAIRN_MERGE_KERNEL_ROW_KERNELS_H_
