#ifndef CAIRN_MERGE_MATRIX_MATRIX_KERNELS_H_
#define CAIRN_MERGE_MATRIX_MATRIX_KERNELS_H_

#include <cstdint>

namespace cairn {

// Inner loops of the algebra, compiled for several vector widths. What they
// compute is written out term by term, so that all versions give the same
// bits.
struct MatrixKernels {
  // Rows of a tile of the product, and columns that one packed panel has.
  static constexpr int kTileRows = 4;
  // Rows of eigenvectors that are rotated together.
  static constexpr int kLanes = 16;

  int tile_columns;
  // c[r * stride + i] += sum over k of a[k * kTileRows + r] *
  // b[k * tile_columns + i], for `rows` rows and `columns` columns.
  void (*tile)(const double* a, const double* b, int64_t depth, double* c,
               int64_t stride, int64_t rows, int64_t columns);

  // One row of a symmetric matrix: row -= v_i w + w_i v, then y += x_i row.
  // Returns row * x. All arrays have `count` elements.
  double (*update_row)(double* row, int64_t count, double v_i, double w_i,
                       const double* v, const double* w, double x_i,
                       const double* x, double* y);

  // Givens rotations of neighbouring rows of `panel`, [n][kLanes]: for i from
  // last - 1 down to first, (row i, row i + 1) become
  // (c row_i - s row_i+1, s row_i + c row_i+1), with c and s in `rotations`,
  // pair after pair.
  void (*rotate)(double* panel, int64_t first, int64_t last,
                 const double* rotations);
};

// The widest that the machine has.
const MatrixKernels& BestMatrixKernels();

}  // namespace cairn

#endif  // CAIRN_MERGE_MATRIX_MATRIX_KERNELS_H_
