#ifndef CAIRN_CORE_UPDATE_SYMMETRIC_EIGENVALUES_H_
#define CAIRN_CORE_UPDATE_SYMMETRIC_EIGENVALUES_H_

#include <cstddef>
#include <vector>

namespace cairn {

// A symmetric matrix taken apart: matrix = vectors^T * diag(values) * vectors.
struct SymmetricEigen {
  std::vector<double> values;   // descending
  std::vector<double> vectors;  // row i belongs to values[i]
};

// Cyclic Jacobi rotations: for the small cores of low-rank products, O(n^3) a
// sweep and fewer than ten of them. `matrix` is n x n, row-major, symmetric
// and finite.
SymmetricEigen DecomposeSymmetric(std::vector<double> matrix, size_t n);

// Singular values of B * A, descending, from the Gram matrices A * A^T and
// B^T * B (n x n, n the rank). Those below 1e-8 of the largest are noise.
std::vector<double> SingularValuesOfProduct(const std::vector<double>& gram_a,
                                            const std::vector<double>& gram_b,
                                            size_t n);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SYMMETRIC_EIGENVALUES_H_
