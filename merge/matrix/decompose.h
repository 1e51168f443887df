#ifndef CAIRN_MERGE_MATRIX_DECOMPOSE_H_
#define CAIRN_MERGE_MATRIX_DECOMPOSE_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/matrix/matrix.h"

namespace cairn {

// Everything here runs on one thread and has the same bits on every machine.

// a = left * diag(values) * right^T, without the directions that are left out.
struct Svd {
  Matrix left;                 // [rows, k], columns orthonormal
  std::vector<double> values;  // k, descending, above 0
  Matrix right;                // [columns, k], columns orthonormal
  int64_t rank() const { return static_cast<int64_t>(values.size()); }
};

// The singular values above `tolerance` times the largest, and of those at
// most `rank_max`. From the eigenvectors of the smaller Gram matrix; what is
// below a thousandth of the largest is decomposed again by itself, so that
// small values keep their digits. INVALID_ARGUMENT for a value that is not
// finite.
absl::StatusOr<Svd> DecomposeSingular(const MatrixView& a, double tolerance,
                                      int64_t rank_max = INT64_MAX);
// Bytes that DecomposeSingular() holds besides its argument, at most.
int64_t SingularBytes(int64_t rows, int64_t columns);

// left * diag(values) * right^T
Matrix Compose(const Svd& svd);

// The nearest matrix with orthonormal columns, left * right^T of the singular
// value decomposition; directions below 1e-12 of the largest are left out.
absl::StatusOr<Matrix> PolarFactor(const MatrixView& a);

// q with orthonormal columns that span those of `a`, and `r` = q^T a.
struct Basis {
  Matrix q;
  Matrix r;
};
absl::StatusOr<Basis> OrthonormalBasis(const MatrixView& a, double tolerance);

// x of a * x = b, for a symmetric positive definite `a`, of which the lower
// half is read; `b` becomes x. By Cholesky's factors. FAILED_PRECONDITION when
// `a` is not positive definite.
absl::Status SolvePositiveDefinite(Matrix a, Matrix& b);

}  // namespace cairn

#endif  // CAIRN_MERGE_MATRIX_DECOMPOSE_H_
