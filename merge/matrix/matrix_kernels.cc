#include "merge/matrix/matrix_kernels.h"

#include "core/base/vector_clones.h"

// As in core/tensor/float_kernels.cc: bodies are inlined into one function for
// each instruction set, and the file is compiled without contraction.
#define CAIRN_INLINE inline __attribute__((always_inline))

namespace cairn {
namespace {

constexpr int kTileRows = MatrixKernels::kTileRows;
constexpr int kLanes = MatrixKernels::kLanes;

template <int kColumns>
CAIRN_INLINE void TileBody(const double* a, const double* b, int64_t depth,
                           double* c, int64_t stride, int64_t rows,
                           int64_t columns) {
  double sum[kTileRows][kColumns] = {};
  const bool is_whole = rows == kTileRows && columns == kColumns;
  for (int r = 0; r < kTileRows; ++r) {
    for (int i = 0; i < kColumns; ++i) {
      if (is_whole || (r < rows && i < columns)) sum[r][i] = c[r * stride + i];
    }
  }
  for (int64_t k = 0; k < depth; ++k, a += kTileRows, b += kColumns) {
    for (int r = 0; r < kTileRows; ++r) {
      for (int i = 0; i < kColumns; ++i) {
        sum[r][i] = __builtin_fma(a[r], b[i], sum[r][i]);
      }
    }
  }
  for (int r = 0; r < kTileRows; ++r) {
    for (int i = 0; i < kColumns; ++i) {
      if (is_whole || (r < rows && i < columns)) c[r * stride + i] = sum[r][i];
    }
  }
}

CAIRN_INLINE double UpdateRowBody(double* row, int64_t count, double v_i,
                                  double w_i, const double* v, const double* w,
                                  double x_i, const double* x, double* y) {
  double lanes[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = __builtin_fma(
          -w_i, v[j + lane], __builtin_fma(-v_i, w[j + lane], row[j + lane]));
      row[j + lane] = value;
      lanes[lane] = __builtin_fma(value, x[j + lane], lanes[lane]);
      y[j + lane] = __builtin_fma(x_i, value, y[j + lane]);
    }
  }
  for (int lane = 0; j < count; ++j, ++lane) {
    const double value =
        __builtin_fma(-w_i, v[j], __builtin_fma(-v_i, w[j], row[j]));
    row[j] = value;
    lanes[lane] = __builtin_fma(value, x[j], lanes[lane]);
    y[j] = __builtin_fma(x_i, value, y[j]);
  }
  double total = 0;
  for (double lane : lanes) total += lane;
  return total;
}

CAIRN_INLINE void RotateBody(double* panel, int64_t first, int64_t last,
                             const double* rotations) {
  double carry[kLanes];
  double* row = panel + last * kLanes;
  for (int lane = 0; lane < kLanes; ++lane) carry[lane] = row[lane];
  for (int64_t i = last - 1; i >= first; --i, rotations += 2) {
    const double c = rotations[0], s = rotations[1];
    double* low = row - kLanes;
    for (int lane = 0; lane < kLanes; ++lane) {
      const double value = low[lane];
      row[lane] = __builtin_fma(s, value, c * carry[lane]);
      carry[lane] = __builtin_fma(c, value, -(s * carry[lane]));
    }
    row = low;
  }
  for (int lane = 0; lane < kLanes; ++lane) row[lane] = carry[lane];
}

#define CAIRN_DEFINE_KERNELS(name, columns, attributes)                       \
  attributes void Tile##name(const double* a, const double* b, int64_t depth, \
                             double* c, int64_t stride, int64_t rows,         \
                             int64_t used) {                                  \
    TileBody<columns>(a, b, depth, c, stride, rows, used);                    \
  }                                                                           \
  attributes double UpdateRow##name(                                          \
      double* row, int64_t count, double v_i, double w_i, const double* v,    \
      const double* w, double x_i, const double* x, double* y) {              \
    return UpdateRowBody(row, count, v_i, w_i, v, w, x_i, x, y);              \
  }                                                                           \
  attributes void Rotate##name(double* panel, int64_t first, int64_t last,    \
                               const double* rotations) {                     \
    RotateBody(panel, first, last, rotations);                                \
  }                                                                           \
  constexpr MatrixKernels k##name = {columns, Tile##name, UpdateRow##name,    \
                                     Rotate##name};

CAIRN_DEFINE_KERNELS(Portable, 4, )
#if defined(__x86_64__)
CAIRN_DEFINE_KERNELS(Avx2, 8, __attribute__((target("avx2,fma"))))
CAIRN_DEFINE_KERNELS(Avx512, 32, __attribute__((target(
                                     "avx512f,avx512dq,fma,"
                                     "prefer-vector-width=512"))))
#endif

}  // namespace

const MatrixKernels& BestMatrixKernels() {
#if defined(__x86_64__)
  static const MatrixKernels& best = WidestOf(kPortable, kAvx2, kAvx512);
  return best;
#else
  return kPortable;
#endif
}

}  // namespace cairn
