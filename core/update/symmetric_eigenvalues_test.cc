#include "core/update/symmetric_eigenvalues.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace cairn {
namespace {

TEST(SymmetricEigenTest, KnownMatrix) {
  const SymmetricEigen eigen = DecomposeSymmetric({2, 1, 1, 2}, 2);
  EXPECT_NEAR(eigen.values[0], 3, 1e-12);
  EXPECT_NEAR(eigen.values[1], 1, 1e-12);
  EXPECT_NEAR(eigen.vectors[0], eigen.vectors[1], 1e-12);
}

TEST(SymmetricEigenTest, VectorsPutTheMatrixTogetherAgain) {
  constexpr size_t kSize = 12;
  std::mt19937 random(1);
  std::normal_distribution<double> normal(0, 1);
  std::vector<double> matrix(kSize * kSize);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t k = 0; k <= i; ++k) {
      matrix[i * kSize + k] = matrix[k * kSize + i] = normal(random);
    }
  }
  const SymmetricEigen eigen = DecomposeSymmetric(matrix, kSize);
  for (size_t i = 0; i < kSize; ++i) {
    for (size_t k = 0; k < kSize; ++k) {
      double sum = 0;
      for (size_t at = 0; at < kSize; ++at) {
        sum += eigen.values[at] * eigen.vectors[at * kSize + i] *
               eigen.vectors[at * kSize + k];
      }
      EXPECT_NEAR(sum, matrix[i * kSize + k], 1e-10);
    }
  }
}

// B = diag(3, 2), A = orthogonal rows of norms 5 and 1: values 15 and 2.
TEST(SingularValuesTest, ProductOfKnownFactors) {
  const auto values = SingularValuesOfProduct({25, 0, 0, 1}, {9, 0, 0, 4}, 2);
  EXPECT_NEAR(values[0], 15, 1e-10);
  EXPECT_NEAR(values[1], 2, 1e-10);
}

TEST(SingularValuesTest, DependentFactorsHaveZeros) {
  const auto values = SingularValuesOfProduct({1, 1, 1, 1}, {1, 0, 0, 1}, 2);
  EXPECT_NEAR(values[0], std::sqrt(2), 1e-10);
  EXPECT_NEAR(values[1], 0, 1e-7);
}

}  // namespace
}  // namespace cairn
