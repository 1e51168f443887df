#include "core/update/symmetric_eigenvalues.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace cairn {
namespace {

constexpr int kSweepsMax = 30;
constexpr double kConverged = 1e-30;  // of the squared norm

// Turns rows p and q of a row-major matrix by the angle of cosine c.
void TurnRows(double* p, double* q, size_t n, double c, double s) {
  for (size_t k = 0; k < n; ++k) {
    const double at_p = p[k];
    p[k] = c * at_p - s * q[k];
    q[k] = s * at_p + c * q[k];
  }
}

// One rotation that makes element (p, q) zero.
void Rotate(std::vector<double>& m, std::vector<double>& v, size_t n, size_t p,
            size_t q) {
  const double off = m[p * n + q];
  if (off == 0) return;
  const double theta = (m[q * n + q] - m[p * n + p]) / (2 * off);
  const double t = std::copysign(1.0, theta) /
                   (std::abs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  TurnRows(&m[p * n], &m[q * n], n, c, s);
  for (size_t k = 0; k < n; ++k) {
    const double at_p = m[k * n + p];
    m[k * n + p] = c * at_p - s * m[k * n + q];
    m[k * n + q] = s * at_p + c * m[k * n + q];
  }
  TurnRows(&v[p * n], &v[q * n], n, c, s);
}

double OffDiagonal(const std::vector<double>& m, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = i + 1; k < n; ++k) sum += m[i * n + k] * m[i * n + k];
  }
  return sum;
}

}  // namespace

SymmetricEigen DecomposeSymmetric(std::vector<double> matrix, size_t n) {
  std::vector<double> vectors(n * n);
  for (size_t i = 0; i < n; ++i) vectors[i * n + i] = 1;
  double norm = 0;
  for (double value : matrix) norm += value * value;
  for (int sweep = 0;
       sweep < kSweepsMax && OffDiagonal(matrix, n) > kConverged * norm;
       ++sweep) {
    for (size_t p = 0; p + 1 < n; ++p) {
      for (size_t q = p + 1; q < n; ++q) Rotate(matrix, vectors, n, p, q);
    }
  }
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return matrix[a * n + a] > matrix[b * n + b];
  });
  SymmetricEigen out;
  for (size_t at : order) {
    out.values.push_back(matrix[at * n + at]);
    out.vectors.insert(out.vectors.end(), &vectors[at * n],
                       &vectors[at * n] + n);
  }
  return out;
}

std::vector<double> SingularValuesOfProduct(const std::vector<double>& gram_a,
                                            const std::vector<double>& gram_b,
                                            size_t n) {
  // With A A^T = V^T D V the squares are the eigenvalues of
  // D^1/2 V (B^T B) V^T D^1/2.
  SymmetricEigen a = DecomposeSymmetric(gram_a, n);
  for (size_t i = 0; i < n; ++i) {
    const double root = std::sqrt(std::max(a.values[i], 0.0));
    for (size_t k = 0; k < n; ++k) a.vectors[i * n + k] *= root;
  }
  std::vector<double> half(n * n), core(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < n; ++k) {
      const double factor = a.vectors[i * n + k];
      for (size_t j = 0; j < n; ++j) {
        half[i * n + j] += factor * gram_b[k * n + j];
      }
    }
  }
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i; j < n; ++j) {
      double sum = 0;
      for (size_t k = 0; k < n; ++k) {
        sum += half[i * n + k] * a.vectors[j * n + k];
      }
      core[i * n + j] = core[j * n + i] = sum;
    }
  }
  std::vector<double> out = DecomposeSymmetric(std::move(core), n).values;
  for (double& value : out) value = std::sqrt(std::max(value, 0.0));
  return out;
}

}  // namespace cairn
