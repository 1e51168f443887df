#include "merge/matrix/matrix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "gtest/gtest.h"
#include "merge/matrix/decompose.h"
#include "merge/matrix/symmetric_eigen.h"

namespace cairn {
namespace {

Matrix RandomMatrix(int64_t rows, int64_t columns, uint32_t seed = 3) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix matrix(rows, columns);
  for (double& value : matrix.values()) value = normal(random);
  return matrix;
}

double Difference(const MatrixView& a, const MatrixView& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.columns, b.columns);
  double most = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    for (int64_t c = 0; c < a.columns; ++c) {
      most = std::max(most, std::fabs(a.At(r, c) - b.At(r, c)));
    }
  }
  return most;
}

double FromIdentity(const Matrix& columns) {
  return Difference(GramOf(columns), Matrix::Identity(columns.columns()));
}

TEST(MatrixTest, ProductsAreSumsInOrder) {
  for (const auto& [m, k, n] : {std::array<int64_t, 3>{1, 1, 1},
                                {3, 5, 7},
                                {100, 300, 530},
                                {33, 600, 70}}) {
    const Matrix a = RandomMatrix(m, k), b = RandomMatrix(k, n, 4);
    const Matrix got = Multiply(a, b);
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) sum = std::fma(a(r, i), b(i, c), sum);
        ASSERT_EQ(got(r, c), sum) << r << " " << c;
      }
    }
  }
}

TEST(MatrixTest, ViewsAreTransposedAndCut) {
  const Matrix a = RandomMatrix(40, 30), b = RandomMatrix(20, 30, 5);
  const Matrix whole = Multiply(a, MatrixView(b).Transposed());
  const Matrix part = Multiply(MatrixView(a).Rows(7, 9),
                               MatrixView(b).Transposed().Columns(3, 4));
  EXPECT_EQ(Difference(part, MatrixView(whole).Rows(7, 9).Columns(3, 4)), 0);
  std::vector<float> values;
  for (double value : a.values()) values.push_back(static_cast<float>(value));
  EXPECT_EQ(Difference(GramOf(MatrixView(values.data(), 40, 30)),
                       GramOf(Matrix(MatrixView(values.data(), 40, 30)))),
            0);
  const Matrix gram = GramOf(a);
  EXPECT_EQ(Difference(gram, MatrixView(gram).Transposed()), 0);
  EXPECT_LT(Difference(gram, Multiply(MatrixView(a).Transposed(), a)), 1e-12);
}

TEST(MatrixTest, EigenvectorsRebuildTheMatrix) {
  for (int64_t n : {1, 2, 3, 17, 33, 150}) {
    const Matrix a = GramOf(RandomMatrix(n + 3, n));
    const SymmetricEigen eigen = DecomposeSymmetric(a).value();
    EXPECT_TRUE(
        std::is_sorted(eigen.values.rbegin(), eigen.values.rend()));
    EXPECT_LT(FromIdentity(eigen.vectors), 1e-13 * static_cast<double>(n));
    Matrix scaled = eigen.vectors;
    ScaleColumns(eigen.values, scaled);
    EXPECT_LT(
        Difference(Multiply(scaled, MatrixView(eigen.vectors).Transposed()), a),
        1e-13 * static_cast<double>(n * n));
  }
}

TEST(MatrixTest, EigenvaluesOfSpecialMatrices) {
  EXPECT_EQ(DecomposeSymmetric(Matrix(4, 4)).value().values,
            std::vector<double>(4, 0.0));
  EXPECT_EQ(DecomposeSymmetric(Matrix::Identity(5)).value().values,
            std::vector<double>(5, 1.0));
  // The discrete Laplacian: 2 - 2 cos(k pi / (n + 1)).
  const int64_t n = 20;
  Matrix laplacian(n, n);
  for (int64_t i = 0; i < n; ++i) {
    laplacian(i, i) = 2;
    if (i + 1 < n) laplacian(i, i + 1) = laplacian(i + 1, i) = -1;
  }
  const SymmetricEigen eigen = DecomposeSymmetric(laplacian).value();
  for (int64_t i = 0; i < n; ++i) {
    const double angle = M_PI * static_cast<double>(n - i) / (n + 1);
    EXPECT_NEAR(eigen.values[static_cast<size_t>(i)], 2 - 2 * std::cos(angle),
                1e-13);
  }
  Matrix bad(2, 2);
  bad(0, 1) = bad(1, 0) = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(DecomposeSymmetric(bad).ok());
}

// A matrix with known singular values.
Matrix WithValues(const std::vector<double>& values, int64_t rows,
                  int64_t columns) {
  const auto k = static_cast<int64_t>(values.size());
  Matrix left = PolarFactor(RandomMatrix(rows, k, 8)).value();
  const Matrix right = PolarFactor(RandomMatrix(columns, k, 9)).value();
  ScaleColumns(values, left);
  return Multiply(left, MatrixView(right).Transposed());
}

TEST(MatrixTest, SmallSingularValuesKeepTheirDigits) {
  const std::vector<double> values = {1e3, 7, 1, 1e-2, 3e-5, 1e-6, 2e-9};
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{40, 25}, {25, 40}, {7, 7}}) {
    const Matrix a = WithValues(values, rows, columns);
    const Svd svd = DecomposeSingular(a, 1e-13).value();
    ASSERT_EQ(svd.rank(), 7);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_NEAR(svd.values[i], values[i], 1e-12 + 1e-9 * values[i]);
    }
    EXPECT_LT(FromIdentity(svd.left), 1e-8);
    EXPECT_LT(FromIdentity(svd.right), 1e-10);
    EXPECT_LT(Difference(Compose(svd), a), 1e-10);
    EXPECT_EQ(DecomposeSingular(a, 1e-4).value().rank(), 3);
    EXPECT_EQ(DecomposeSingular(a, 0, 2).value().rank(), 2);
  }
  EXPECT_EQ(DecomposeSingular(Matrix(5, 4), 1e-9).value().rank(), 0);
}

TEST(MatrixTest, PolarFactorIsOrthonormalAndSymmetricallyNear) {
  const Matrix a = RandomMatrix(30, 12);
  const Matrix q = PolarFactor(a).value();
  EXPECT_LT(FromIdentity(q), 1e-12);
  // q^T a is symmetric and positive: no rotation brings q nearer.
  const Matrix h = Multiply(MatrixView(q).Transposed(), a);
  EXPECT_LT(Difference(h, MatrixView(h).Transposed()), 1e-12);
  const SymmetricEigen eigen = DecomposeSymmetric(h).value();
  EXPECT_GT(eigen.values.back(), 0);
}

TEST(MatrixTest, BasisSpansDependentColumns) {
  const Matrix a = Multiply(RandomMatrix(50, 3), RandomMatrix(3, 8, 4));
  const Basis basis = OrthonormalBasis(a, 1e-10).value();
  EXPECT_EQ(basis.q.columns(), 3);
  EXPECT_LT(Difference(Multiply(basis.q, basis.r), a), 1e-12);
}

TEST(MatrixTest, SolvesPositiveDefiniteSystems) {
  for (int64_t n : {1, 5, 64, 130}) {
    const Matrix a = GramOf(RandomMatrix(n + 10, n));
    const Matrix x = RandomMatrix(n, 3, 6);
    Matrix b = Multiply(a, x);
    ASSERT_TRUE(SolvePositiveDefinite(a, b).ok());
    EXPECT_LT(Difference(b, x), 1e-8);
  }
  Matrix b(2, 1);
  EXPECT_FALSE(SolvePositiveDefinite(Matrix(2, 2), b).ok());
}

}  // namespace
}  // namespace cairn
