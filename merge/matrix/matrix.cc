#include "merge/matrix/matrix.h"

#include <algorithm>
#include <cmath>

#include "core/base/log.h"
#include "merge/matrix/matrix_kernels.h"

namespace cairn {
namespace {

// Blocks that stay in the second cache. They do not show in the result: an
// element's partial sum goes on where the last block left it.
constexpr int64_t kDepth = 256;
constexpr int64_t kRows = 96;
constexpr int64_t kColumns = 512;

int64_t RoundUp(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

template <typename T>
void PackFrom(const T* values, const MatrixView& view, int64_t first_row,
              int64_t rows, int64_t first_column, int64_t columns,
              double factor, int64_t step, bool is_by_row, double* out) {
  const int64_t outer = is_by_row ? rows : columns;
  const int64_t inner = is_by_row ? columns : rows;
  const int64_t outer_stride = is_by_row ? view.row_stride : view.column_stride;
  const int64_t inner_stride = is_by_row ? view.column_stride : view.row_stride;
  const T* start =
      values + first_row * view.row_stride + first_column * view.column_stride;
  for (int64_t begin = 0; begin < outer; begin += step) {
    double* panel = out + begin * inner;
    const int64_t used = std::min(step, outer - begin);
    for (int64_t k = 0; k < inner; ++k) {
      const T* source = start + begin * outer_stride + k * inner_stride;
      for (int64_t r = 0; r < used; ++r) {
        panel[k * step + r] =
            factor * static_cast<double>(source[r * outer_stride]);
      }
      for (int64_t r = used; r < step; ++r) panel[k * step + r] = 0;
    }
  }
}

// Packs a block into panels of `step` rows (or columns), index by index of the
// other axis.
void Pack(const MatrixView& view, int64_t first_row, int64_t rows,
          int64_t first_column, int64_t columns, double factor, int64_t step,
          bool is_by_row, double* out) {
  if (view.f32 != nullptr) {
    PackFrom(view.f32, view, first_row, rows, first_column, columns, factor,
             step, is_by_row, out);
  } else {
    PackFrom(view.f64, view, first_row, rows, first_column, columns, factor,
             step, is_by_row, out);
  }
}

// Which elements of the product are wanted.
enum class Part { kAll, kLower };

void AddBlocks(double factor, const MatrixView& a, const MatrixView& b,
               Part part, double* out, int64_t stride) {
  const MatrixKernels& kernels = BestMatrixKernels();
  constexpr int64_t kTile = MatrixKernels::kTileRows;
  const int64_t width = kernels.tile_columns;
  std::vector<double> packed_a(static_cast<size_t>(
      RoundUp(std::min(kRows, a.rows), kTile) * std::min(kDepth, a.columns)));
  std::vector<double> packed_b(
      static_cast<size_t>(RoundUp(std::min(kColumns, b.columns), width) *
                          std::min(kDepth, a.columns)));
  for (int64_t column = 0; column < b.columns; column += kColumns) {
    const int64_t columns = std::min(kColumns, b.columns - column);
    for (int64_t k = 0; k < a.columns; k += kDepth) {
      const int64_t depth = std::min(kDepth, a.columns - k);
      Pack(b, k, depth, column, columns, 1.0, width, false, packed_b.data());
      for (int64_t row = 0; row < a.rows; row += kRows) {
        const int64_t rows = std::min(kRows, a.rows - row);
        if (part == Part::kLower && row + rows <= column) continue;
        Pack(a, row, rows, k, depth, factor, kTile, true, packed_a.data());
        for (int64_t j = 0; j < columns; j += width) {
          for (int64_t i = 0; i < rows; i += kTile) {
            if (part == Part::kLower && row + i + kTile <= column + j) continue;
            kernels.tile(packed_a.data() + i * depth,
                         packed_b.data() + j * depth, depth,
                         out + (row + i) * stride + column + j, stride,
                         std::min(kTile, rows - i),
                         std::min(width, columns - j));
          }
        }
      }
    }
  }
}

}  // namespace

MatrixView::MatrixView(const Matrix& matrix)
    : f64(matrix.values().data()),
      rows(matrix.rows()),
      columns(matrix.columns()),
      row_stride(matrix.columns()) {}

MatrixView::MatrixView(const float* values, int64_t row_count,
                       int64_t column_count)
    : f32(values),
      rows(row_count),
      columns(column_count),
      row_stride(column_count) {}

MatrixView MatrixView::Transposed() const {
  MatrixView view = *this;
  std::swap(view.rows, view.columns);
  std::swap(view.row_stride, view.column_stride);
  return view;
}

MatrixView MatrixView::Rows(int64_t first, int64_t count) const {
  MatrixView view = *this;
  view.rows = count;
  if (f32 != nullptr) view.f32 += first * row_stride;
  if (f64 != nullptr) view.f64 += first * row_stride;
  return view;
}

MatrixView MatrixView::Columns(int64_t first, int64_t count) const {
  return Transposed().Rows(first, count).Transposed();
}

Matrix::Matrix(const MatrixView& view) : Matrix(view.rows, view.columns) {
  for (int64_t r = 0; r < rows_; ++r) {
    double* out = row(r);
    for (int64_t c = 0; c < columns_; ++c) out[c] = view.At(r, c);
  }
}

Matrix Matrix::Identity(int64_t size) {
  Matrix matrix(size, size);
  for (int64_t i = 0; i < size; ++i) matrix(i, i) = 1;
  return matrix;
}

void AddProduct(double factor, const MatrixView& a, const MatrixView& b,
                Matrix& sum, int64_t first_row, int64_t first_column) {
  CAIRN_CHECK(a.columns == b.rows && first_row + a.rows <= sum.rows() &&
              first_column + b.columns <= sum.columns());
  AddBlocks(factor, a, b, Part::kAll,
            sum.values().data() + first_row * sum.columns() + first_column,
            sum.columns());
}

Matrix Multiply(const MatrixView& a, const MatrixView& b) {
  Matrix product(a.rows, b.columns);
  AddProduct(1.0, a, b, product);
  return product;
}

Matrix GramOf(const MatrixView& a) {
  Matrix gram(a.columns, a.columns);
  AddBlocks(1.0, a.Transposed(), a, Part::kLower, gram.values().data(),
            gram.columns());
  for (int64_t i = 0; i < gram.rows(); ++i) {
    for (int64_t j = 0; j < i; ++j) gram(j, i) = gram(i, j);
  }
  return gram;
}

double Dot(const MatrixView& a, const MatrixView& b) {
  CAIRN_CHECK(a.rows == b.rows && a.columns == b.columns);
  double total = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < a.columns; ++c) sum += a.At(r, c) * b.At(r, c);
    total += sum;
  }
  return total;
}

double Norm(const MatrixView& a) { return std::sqrt(Dot(a, a)); }

void ScaleBy(double factor, Matrix& matrix) {
  for (double& value : matrix.values()) value *= factor;
}

void ScaleColumns(const std::vector<double>& factors, Matrix& matrix) {
  for (int64_t r = 0; r < matrix.rows(); ++r) {
    double* row = matrix.row(r);
    for (size_t c = 0; c < factors.size(); ++c) row[c] *= factors[c];
  }
}

}  // namespace cairn
