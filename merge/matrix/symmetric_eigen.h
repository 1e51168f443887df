#ifndef CAIRN_MERGE_MATRIX_SYMMETRIC_EIGEN_H_
#define CAIRN_MERGE_MATRIX_SYMMETRIC_EIGEN_H_

#include <vector>

#include "absl/status/statusor.h"
#include "merge/matrix/matrix.h"

namespace cairn {

// a = vectors * diag(values) * vectors^T.
struct SymmetricEigen {
  std::vector<double> values;  // descending
  Matrix vectors;              // in columns, orthonormal
};

// Decomposes a symmetric matrix: Householder's reduction to a tridiagonal one,
// then implicit QL (Golub and Van Loan, Matrix Computations, 8.3), with the
// rotations of many sweeps applied to a few rows of vectors at a time. About
// 8 n^3 operations; holds 3 n^2 doubles, the argument among them. One thread,
// the same bits on every machine. INVALID_ARGUMENT for a value that is not
// finite.
absl::StatusOr<SymmetricEigen> DecomposeSymmetric(Matrix a);

}  // namespace cairn

#endif  // CAIRN_MERGE_MATRIX_SYMMETRIC_EIGEN_H_
