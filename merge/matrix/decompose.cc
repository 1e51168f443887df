#include "merge/matrix/decompose.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "merge/matrix/symmetric_eigen.h"

namespace cairn {
namespace {

// Below this share of the largest, eigenvalues of a Gram matrix have lost too
// many digits.
constexpr double kTrusted = 1e-3;
// Nothing but rounding is left below this share of the whole.
constexpr double kNoise = 1e-15;

Matrix Part(const Matrix& matrix, int64_t first, int64_t count) {
  return Matrix(MatrixView(matrix).Columns(first, count));
}

// The matrices side by side.
Matrix Beside(const Matrix& a, const Matrix& b) {
  if (a.columns() == 0) return b;
  Matrix both(a.rows(), a.columns() + b.columns());
  for (int64_t r = 0; r < a.rows(); ++r) {
    std::copy_n(a.row(r), a.columns(), both.row(r));
    std::copy_n(b.row(r), b.columns(), both.row(r) + a.columns());
  }
  return both;
}

// Decomposes `a`, of at least as many rows as columns, for values above
// `floor`.
absl::StatusOr<Svd> DecomposeTall(const MatrixView& a, double floor,
                                  int64_t rank_max, int depth) {
  CAIRN_ASSIGN_OR_RETURN(SymmetricEigen eigen, DecomposeSymmetric(GramOf(a)));
  std::vector<double> values;
  for (double value : eigen.values) {
    values.push_back(std::sqrt(std::max(0.0, value)));
  }
  const double largest = values.empty() ? 0 : values[0];
  int64_t sure = 0;
  const auto size = static_cast<int64_t>(values.size());
  while (sure < size && sure < rank_max && largest > 0 &&
         values[static_cast<size_t>(sure)] >= kTrusted * largest) {
    ++sure;
  }
  Svd svd;
  svd.right = Part(eigen.vectors, 0, sure);
  svd.left = Multiply(a, svd.right);
  std::vector<double> inverse;
  for (int64_t c = 0; c < sure; ++c) {
    // The length of the column is the value to the last digits.
    svd.values.push_back(Norm(MatrixView(svd.left).Columns(c, 1)));
    inverse.push_back(1 / svd.values.back());
  }
  ScaleColumns(inverse, svd.left);
  constexpr int kDepthMax = 8;
  if (sure < size && sure < rank_max && largest > 0 && depth < kDepthMax &&
      kTrusted * largest > floor) {
    const Matrix rest = Part(eigen.vectors, sure, size - sure);
    eigen.vectors = Matrix();
    Matrix small = Multiply(a, rest);
    AddProduct(-1.0, svd.left,
               Multiply(MatrixView(svd.left).Transposed(), small), small);
    CAIRN_ASSIGN_OR_RETURN(
        Svd lower, DecomposeTall(small, floor, rank_max - sure, depth + 1));
    if (lower.rank() > 0) {
      svd.left = Beside(svd.left, lower.left);
      svd.right = Beside(svd.right, Multiply(rest, lower.right));
      svd.values.insert(svd.values.end(), lower.values.begin(),
                        lower.values.end());
    }
  }
  int64_t kept = 0;
  while (kept < svd.rank() && svd.values[static_cast<size_t>(kept)] > floor) {
    ++kept;
  }
  if (kept < svd.rank()) {
    svd.values.resize(static_cast<size_t>(kept));
    svd.left = Part(svd.left, 0, kept);
    svd.right = Part(svd.right, 0, kept);
  }
  return svd;
}

// Cholesky's factor of the block at `first`, in place; false when the block is
// not positive definite.
bool FactorBlock(Matrix& a, int64_t first, int64_t count) {
  for (int64_t j = first; j < first + count; ++j) {
    double pivot = a(j, j);
    for (int64_t k = first; k < j; ++k) pivot -= a(j, k) * a(j, k);
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    a(j, j) = std::sqrt(pivot);
    for (int64_t i = j + 1; i < a.rows(); ++i) {
      double value = a(i, j);
      for (int64_t k = first; k < j; ++k) value -= a(i, k) * a(j, k);
      a(i, j) = value / a(j, j);
    }
  }
  return true;
}

constexpr int64_t kBlock = 64;

// Rows [first, first + count) of b become those of L^-1 b.
void SolveLower(const Matrix& l, int64_t first, int64_t count, Matrix& b) {
  for (int64_t i = first; i < first + count; ++i) {
    double* row = b.row(i);
    for (int64_t k = first; k < i; ++k) {
      const double factor = l(i, k);
      const double* other = b.row(k);
      for (int64_t c = 0; c < b.columns(); ++c) row[c] -= factor * other[c];
    }
    for (int64_t c = 0; c < b.columns(); ++c) row[c] /= l(i, i);
  }
}

// Likewise of L^-T b.
void SolveUpper(const Matrix& l, int64_t first, int64_t count, Matrix& b) {
  for (int64_t i = first + count - 1; i >= first; --i) {
    double* row = b.row(i);
    for (int64_t k = i + 1; k < first + count; ++k) {
      const double factor = l(k, i);
      const double* other = b.row(k);
      for (int64_t c = 0; c < b.columns(); ++c) row[c] -= factor * other[c];
    }
    for (int64_t c = 0; c < b.columns(); ++c) row[c] /= l(i, i);
  }
}

}  // namespace

absl::StatusOr<Svd> DecomposeSingular(const MatrixView& a, double tolerance,
                                      int64_t rank_max) {
  const bool is_wide = a.rows < a.columns;
  const MatrixView tall = is_wide ? a.Transposed() : a;
  const double whole = Norm(tall);
  if (!std::isfinite(whole)) {
    return absl::InvalidArgumentError("a matrix holds a NaN or an infinity");
  }
  // The largest value is known only later, so the tail is cut in the end.
  const double spread =
      std::sqrt(static_cast<double>(std::max<int64_t>(1, tall.columns)));
  const double floor = std::max(tolerance / spread, kNoise) * whole;
  CAIRN_ASSIGN_OR_RETURN(Svd svd, DecomposeTall(tall, floor, rank_max, 0));
  int64_t kept = 0;
  while (kept < svd.rank() && svd.values[static_cast<size_t>(kept)] >
                                  tolerance * svd.values[0]) {
    ++kept;
  }
  svd.values.resize(static_cast<size_t>(kept));
  svd.left = Part(svd.left, 0, kept);
  svd.right = Part(svd.right, 0, kept);
  if (is_wide) std::swap(svd.left, svd.right);
  return svd;
}

int64_t SingularBytes(int64_t rows, int64_t columns) {
  const int64_t large = std::max(rows, columns), n = std::min(rows, columns);
  // Vectors of both sides, of the rest apart, and the eigenvectors' work.
  return 8 * (3 * large * n + 5 * n * n);
}

Matrix Compose(const Svd& svd) {
  Matrix scaled = svd.left;
  ScaleColumns(svd.values, scaled);
  return Multiply(scaled, MatrixView(svd.right).Transposed());
}

absl::StatusOr<Matrix> PolarFactor(const MatrixView& a) {
  CAIRN_ASSIGN_OR_RETURN(const Svd svd, DecomposeSingular(a, 1e-12));
  return Multiply(svd.left, MatrixView(svd.right).Transposed());
}

absl::StatusOr<Basis> OrthonormalBasis(const MatrixView& a, double tolerance) {
  CAIRN_ASSIGN_OR_RETURN(Svd svd, DecomposeSingular(a, tolerance));
  Basis basis = {.q = std::move(svd.left), .r = {}};
  basis.r = Multiply(MatrixView(basis.q).Transposed(), a);
  return basis;
}

absl::Status SolvePositiveDefinite(Matrix a, Matrix& b) {
  CAIRN_CHECK(a.rows() == a.columns() && a.rows() == b.rows());
  const int64_t n = a.rows();
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = std::min(kBlock, n - first);
    if (!FactorBlock(a, first, count)) {
      return absl::FailedPreconditionError("the matrix is not positive definite");
    }
    // The rest of the lower half, one block of columns after the other.
    for (int64_t c = first + count; c < n; c += kBlock) {
      const int64_t columns = std::min(kBlock, n - c);
      const Matrix right(
          MatrixView(a).Rows(c, columns).Columns(first, count));
      const Matrix left(MatrixView(a).Rows(c, n - c).Columns(first, count));
      AddProduct(-1.0, left, MatrixView(right).Transposed(), a, c, c);
    }
  }
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = std::min(kBlock, n - first);
    const Matrix solved(MatrixView(b).Rows(0, first));
    AddProduct(-1.0, MatrixView(a).Rows(first, count).Columns(0, first),
               solved, b, first, 0);
    SolveLower(a, first, count, b);
  }
  for (int64_t first = (n - 1) / kBlock * kBlock; first >= 0; first -= kBlock) {
    const int64_t count = std::min(kBlock, n - first);
    const int64_t after = n - first - count;
    const Matrix solved(MatrixView(b).Rows(first + count, after));
    AddProduct(-1.0,
               MatrixView(a)
                   .Rows(first + count, after)
                   .Columns(first, count)
                   .Transposed(),
               solved, b, first, 0);
    SolveUpper(a, first, count, b);
  }
  return absl::OkStatus();
}

}  // namespace cairn
