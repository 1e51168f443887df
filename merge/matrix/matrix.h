#ifndef CAIRN_MERGE_MATRIX_MATRIX_H_
#define CAIRN_MERGE_MATRIX_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

class Matrix;

// Someone else's matrix of floats or doubles, or a part or the transpose of
// it. The owner outlives it.
struct MatrixView {
  MatrixView() = default;
  MatrixView(const Matrix& matrix);  // NOLINT: a matrix is a view of itself
  // [rows, columns], row-major.
  MatrixView(const float* values, int64_t row_count, int64_t column_count);

  MatrixView Transposed() const;
  MatrixView Rows(int64_t first, int64_t count) const;
  MatrixView Columns(int64_t first, int64_t count) const;
  double At(int64_t row, int64_t column) const {
    const int64_t at = row * row_stride + column * column_stride;
    return f32 != nullptr ? static_cast<double>(f32[at]) : f64[at];
  }

  const float* f32 = nullptr;  // one of the two
  const double* f64 = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;
  int64_t column_stride = 1;
};

// A matrix of doubles, row-major.
class Matrix {
 public:
  Matrix() = default;
  // Zeros.
  Matrix(int64_t rows, int64_t columns)
      : rows_(rows),
        columns_(columns),
        values_(static_cast<size_t>(rows * columns)) {}
  explicit Matrix(const MatrixView& view);
  static Matrix Identity(int64_t size);

  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  double* row(int64_t r) { return values_.data() + r * columns_; }
  const double* row(int64_t r) const { return values_.data() + r * columns_; }
  double& operator()(int64_t r, int64_t c) { return row(r)[c]; }
  double operator()(int64_t r, int64_t c) const { return row(r)[c]; }
  const std::vector<double>& values() const { return values_; }
  std::vector<double>& values() { return values_; }

 private:
  int64_t rows_ = 0;
  int64_t columns_ = 0;
  std::vector<double> values_;
};

// Products in double. Each element is one sum in ascending order of the inner
// index, every term added by a fused multiply-add, so that its bits depend
// neither on the machine nor on how the work is cut. One thread.

// a * b
Matrix Multiply(const MatrixView& a, const MatrixView& b);
// sum[first_row..., first_column...] += factor * a * b
void AddProduct(double factor, const MatrixView& a, const MatrixView& b,
                Matrix& sum, int64_t first_row = 0, int64_t first_column = 0);
// a^T * a; both halves have the same bits.
Matrix GramOf(const MatrixView& a);

// sum of a_ij b_ij, row after row.
double Dot(const MatrixView& a, const MatrixView& b);
// Square root of the sum of the squares.
double Norm(const MatrixView& a);
// matrix *= factor
void ScaleBy(double factor, Matrix& matrix);
// Column c times factors[c].
void ScaleColumns(const std::vector<double>& factors, Matrix& matrix);

}  // namespace cairn

#endif  // CAIRN_MERGE_MATRIX_MATRIX_H_
