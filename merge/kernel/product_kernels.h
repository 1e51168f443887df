#ifndef CAIRN_MERGE_KERNEL_PRODUCT_KERNELS_H_
#define CAIRN_MERGE_KERNEL_PRODUCT_KERNELS_H_

#include <cstdint>

#include "merge/kernel/product.h"

namespace cairn {

inline int64_t RoundUp(int64_t value, int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// The inner loops of Multiply() for one width of vectors.
//
// Rows of x come packed in chunks of kChunk elements, one row's after the
// other's, so that one pointer reaches all of them; columns of W in panels
// [depth, panel_columns]. Elements are floats or, of the pair kernels, two
// BF16 that follow each other along the depth, the first in the lower half.
struct ProductKernels {
  static constexpr int64_t kChunk = 16;
  static constexpr int64_t kTileRowsMax = 32;
  static constexpr int64_t kPanelColumnsMax = 32;

  // Adds to, or begins with `begin` (null: what stands there), a tile of as
  // many rows as the place of the function in `tiles`, and a panel's columns.
  // Those of pairs may read both up to a whole chunk, where there are zeros,
  // and further rows of x, which may be anything.
  using Tile = void(const float* x, const float* panel, int64_t depth,
                    const float* begin, float* out, int64_t stride);
  // Packs w [8, 8], rows `stride` apart, into 8 rows of a panel.
  using Turn = void(const float* w, int64_t stride, float* panel,
                    int64_t panel_columns);
  // The same of BF16, which it widens.
  using TurnBf16 = void(const uint16_t* w, int64_t stride, float* panel,
                        int64_t panel_columns);

  int64_t tile_rows;
  int64_t panel_columns;
  int64_t depth;       // is done at a time: a panel of it stays in a near cache
  Tile* const* tiles;  // [tile_rows + 1]; the first is none
  Turn* turn;
  TurnBf16* turn_bf16;
  // Before and after tiles, on their thread; null: nothing to do.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;
};

// Those that suit this machine best. All give the same bits.
const ProductKernels& BestProductKernels();
// Those for machines without wide vectors, for comparison.
const ProductKernels& PortableProductKernels();

// Those that multiply pairs of BF16 by the instruction of that name, and null
// on a machine or under a kernel that has it not.
const ProductKernels* PairKernels(Bf16Instruction instruction);
// What they compute, written out, for tests.
const ProductKernels& PortablePairKernels();

// Multiply() on given kernels: those of floats, or of pairs for BF16 whose
// depth is even.
void Multiply(const Product& product, const ProductKernels& kernels);
void MultiplyPairs(const Product& product, const ProductKernels& kernels);

// Packs a panel of W [columns, depth] (is_in_out: [depth, columns]), rows
// `stride` apart; columns past the last are zeros. Takes the room of a depth
// that is rounded up to 8.
void PackPanel(const ProductKernels& kernels, const float* w, int64_t stride,
               bool is_in_out, int64_t columns, int64_t depth, float* panel);

}  // namespace cairn

#endif  // CAIRN_MERGE_KERNEL_PRODUCT_KERNELS_H_
