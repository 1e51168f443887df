#ifndef CAIRN_MERGE_KERNEL_PRODUCT_H_
#define CAIRN_MERGE_KERNEL_PRODUCT_H_

#include <cstdint>

namespace cairn {

// A product of matrices: out = x W^T + bias, row by row, with sums in F32.
struct Product {
  const float* x = nullptr;  // [rows, depth], rows `x_stride` apart
  int64_t x_stride = 0;
  const float* w = nullptr;  // [columns, depth], rows `w_stride` apart
  // In place of `w`: a matrix in BF16. x is rounded to BF16 as well.
  const uint16_t* w_bf16 = nullptr;
  int64_t w_stride = 0;
  bool is_in_out = false;       // w is [depth, columns]
  const float* bias = nullptr;  // [columns]; null: none
  float* out = nullptr;         // [rows, columns], rows `out_stride` apart
  int64_t out_stride = 0;
  bool rounds_out = false;  // to the nearest numbers that BF16 has
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t depth = 0;
};

// Computes it on the calling thread. An element of the result is the bias and
// then, in the order of the depth, every product fused with the sum so far: it
// depends on its row of x and its row of w alone. It does not depend on the
// machine either, but for BF16 where there is a Bf16Instruction.
// Keeps some MiB of scratch for the thread; the arrays do not overlap.
void Multiply(const Product& product);

// What multiplies BF16 on this machine. The instructions add in an order of
// their own and take no subnormal numbers, so that the bits are their own.
enum class Bf16Instruction {
  kNone,    // those of F32
  kAvx512,  // VDPBF16PS: two products at a time
  kAmx,     // TDPBF16PS: 32 products at a time
};
Bf16Instruction BestBf16Instruction();

}  // namespace cairn

#endif  // CAIRN_MERGE_KERNEL_PRODUCT_H_
