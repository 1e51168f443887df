#include "merge/matrix/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"
#include "merge/matrix/matrix_kernels.h"

namespace cairn {
namespace {

using Doubles = std::vector<double>;

// Not the library's, whose last bit differs between its versions.
double Hypotenuse(double a, double b) {
  const double x = std::max(std::fabs(a), std::fabs(b));
  if (x == 0) return 0;
  const double y = std::min(std::fabs(a), std::fabs(b)) / x;
  return x * std::sqrt(1 + y * y);
}

// A tridiagonal matrix T, and the reflections H_k = I - tau_k v_k v_k^T with
// a = Q T Q^T for Q = H_0 H_1 ... The vector v_k, whose element k + 1 is 1,
// lies in row k of `a` from column k + 1 on.
struct Tridiagonal {
  Doubles diagonal;
  Doubles beside;  // element k is T[k][k + 1]; the last is 0
  Doubles taus;
};

// The vector that turns x into (beta, 0, ...): v[0] = 1. Returns tau.
double Reflect(Doubles& x, int64_t count, double& beta) {
  double rest = 0;
  for (int64_t i = 1; i < count; ++i) {
    rest += x[static_cast<size_t>(i)] * x[static_cast<size_t>(i)];
  }
  const double alpha = x[0];
  x[0] = 1;
  if (rest == 0) {
    beta = alpha;
    return 0;
  }
  const double length = std::sqrt(alpha * alpha + rest);
  beta = alpha > 0 ? -length : length;
  const double divisor = alpha - beta;
  for (int64_t i = 1; i < count; ++i) x[static_cast<size_t>(i)] /= divisor;
  return (beta - alpha) / beta;
}

// Works on the lower half. The update of one step is applied in the pass over
// the matrix that the next step makes anyway.
Tridiagonal Reduce(Matrix& a) {
  const int64_t n = a.rows();
  const auto size = static_cast<size_t>(n);
  const MatrixKernels& kernels = BestMatrixKernels();
  Tridiagonal t = {Doubles(size), Doubles(size), Doubles(size)};
  // Of the last step, with the rows of the whole matrix.
  Doubles v(size), w(size), x(size), y(size);
  for (int64_t k = 0; k < n; ++k) {
    const double v_k = v[static_cast<size_t>(k)];
    const double w_k = w[static_cast<size_t>(k)];
    for (int64_t i = k; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      a(i, k) =
          std::fma(-w[at], v_k, std::fma(-v[at], w_k, a(i, k)));
    }
    t.diagonal[static_cast<size_t>(k)] = a(k, k);
    const int64_t first = k + 1, count = n - first;
    if (count == 0) break;
    for (int64_t i = 0; i < count; ++i) {
      x[static_cast<size_t>(i)] = a(first + i, k);
    }
    const double tau = Reflect(x, count, t.beside[static_cast<size_t>(k)]);
    t.taus[static_cast<size_t>(k)] = tau;
    std::copy_n(x.begin(), count, a.row(k) + first);
    std::fill_n(y.begin(), count, 0.0);
    for (int64_t i = 0; i < count; ++i) {
      double* row = a.row(first + i) + first;
      const double v_i = v[static_cast<size_t>(first + i)];
      const double w_i = w[static_cast<size_t>(first + i)];
      const double x_i = x[static_cast<size_t>(i)];
      const double dot =
          kernels.update_row(row, i, v_i, w_i, v.data() + first,
                             w.data() + first, x_i, x.data(), y.data());
      row[i] = std::fma(-w_i, v_i, std::fma(-v_i, w_i, row[i]));
      y[static_cast<size_t>(i)] += std::fma(row[i], x_i, dot);
    }
    double half = 0;
    for (int64_t i = 0; i < count; ++i) {
      y[static_cast<size_t>(i)] *= tau;
      half += y[static_cast<size_t>(i)] * x[static_cast<size_t>(i)];
    }
    half *= tau / 2;
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(first + i);
      v[at] = x[static_cast<size_t>(i)];
      w[at] = y[static_cast<size_t>(i)] - half * x[static_cast<size_t>(i)];
    }
  }
  return t;
}

// Q, from the last reflections to the first, as many at a time as make one
// product: H_a ... H_b = I - V T V^T.
Matrix FormOrthogonal(const Matrix& a, const Doubles& taus) {
  constexpr int64_t kBlock = 32;
  const int64_t n = a.rows();
  Matrix q = Matrix::Identity(n);
  const int64_t reflections = std::max<int64_t>(0, n - 1);
  for (int64_t block = (reflections - 1) / kBlock; block >= 0; --block) {
    const int64_t begin = block * kBlock;
    const int64_t count = std::min(kBlock, reflections - begin);
    const int64_t first = begin + 1;
    Matrix v(count, n - first);  // in rows
    for (int64_t k = 0; k < count; ++k) {
      std::copy(a.row(begin + k) + first + k, a.row(begin + k) + n,
                v.row(k) + k);
    }
    const Matrix dots = Multiply(v, MatrixView(v).Transposed());
    Matrix t(count, count);
    for (int64_t k = 0; k < count; ++k) {
      const double tau = taus[static_cast<size_t>(begin + k)];
      for (int64_t i = 0; i < k; ++i) {
        double sum = 0;
        for (int64_t j = i; j < k; ++j) sum += t(i, j) * dots(j, k);
        t(i, k) = -tau * sum;
      }
      t(k, k) = tau;
    }
    const MatrixView below =
        MatrixView(q).Rows(first, n - first).Columns(first, n - first);
    const Matrix change = Multiply(t, Multiply(v, below));
    AddProduct(-1.0, MatrixView(v).Transposed(), change, q, first, first);
  }
  return q;
}

// Sweeps of rotations that wait to be applied to the vectors.
class Rotations {
 public:
  explicit Rotations(Matrix& vectors) : vectors_(vectors) {}

  void Begin(int64_t last) { sweeps_.push_back({last, last, values_.size()}); }
  void Add(double c, double s) {
    values_.push_back(c);
    values_.push_back(s);
    --sweeps_.back().first;
  }
  void ApplyWhenMany() {
    if (sweeps_.size() >= kSweeps) Apply();
  }

  void Apply() {
    constexpr int64_t kLanes = MatrixKernels::kLanes;
    const int64_t n = vectors_.columns();
    panel_.resize(static_cast<size_t>(n * kLanes));
    for (int64_t row = 0; row < vectors_.rows(); row += kLanes) {
      const int64_t used = std::min(kLanes, vectors_.rows() - row);
      for (int64_t r = 0; r < used; ++r) {
        const double* from = vectors_.row(row + r);
        for (int64_t c = 0; c < n; ++c) {
          panel_[static_cast<size_t>(c * kLanes + r)] = from[c];
        }
      }
      for (const Sweep& sweep : sweeps_) {
        BestMatrixKernels().rotate(panel_.data(), sweep.first, sweep.last,
                                   values_.data() + sweep.at);
      }
      for (int64_t r = 0; r < used; ++r) {
        double* to = vectors_.row(row + r);
        for (int64_t c = 0; c < n; ++c) {
          to[c] = panel_[static_cast<size_t>(c * kLanes + r)];
        }
      }
    }
    sweeps_.clear();
    values_.clear();
  }

 private:
  static constexpr size_t kSweeps = 64;

  struct Sweep {
    int64_t first, last;
    size_t at;  // of its first rotation
  };

  Matrix& vectors_;
  std::vector<Sweep> sweeps_;
  Doubles values_;
  Doubles panel_;
};

// One implicit QL sweep of rows [l, m].
void Sweep(size_t l, size_t m, Doubles& d, Doubles& e, Rotations& rotations) {
  double g = (d[l + 1] - d[l]) / (2 * e[l]);
  const double length = Hypotenuse(g, 1);
  g = d[m] - d[l] + e[l] / (g + (g < 0 ? -length : length));
  double s = 1, c = 1, p = 0;
  rotations.Begin(static_cast<int64_t>(m));
  for (size_t i = m; i-- > l;) {
    const double f = s * e[i], b = c * e[i];
    double r = Hypotenuse(f, g);
    e[i + 1] = r;
    if (r == 0) {
      d[i + 1] -= p;
      e[m] = 0;
      return;
    }
    s = f / r;
    c = g / r;
    g = d[i + 1] - p;
    r = (d[i] - g) * s + 2 * c * b;
    p = s * r;
    d[i + 1] = g + p;
    g = c * r - b;
    rotations.Add(c, s);
  }
  d[l] -= p;
  e[l] = g;
  e[m] = 0;
}

// Brings T to diagonal form; the values end in t.diagonal.
absl::Status Diagonalize(Tridiagonal& t, Matrix& vectors) {
  constexpr int kSweepsMax = 100;  // a value takes two, as a rule
  Doubles &d = t.diagonal, &e = t.beside;
  Rotations rotations(vectors);
  const size_t n = d.size();
  for (size_t l = 0; l < n; ++l) {
    for (int sweeps = 0;; ++sweeps) {
      size_t m = l;
      for (; m + 1 < n; ++m) {
        const double scale = std::fabs(d[m]) + std::fabs(d[m + 1]);
        if (std::fabs(e[m]) <= std::numeric_limits<double>::epsilon() * scale) {
          break;
        }
      }
      if (m == l) break;
      if (sweeps == kSweepsMax) {
        return absl::InternalError("an eigenvalue was not found");
      }
      Sweep(l, m, d, e, rotations);
      rotations.ApplyWhenMany();
    }
  }
  rotations.Apply();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SymmetricEigen> DecomposeSymmetric(Matrix a) {
  CAIRN_CHECK(a.rows() == a.columns());
  double most = 0;
  for (double value : a.values()) {
    if (!std::isfinite(value)) {
      return absl::InvalidArgumentError("a matrix holds a NaN or an infinity");
    }
    most = std::max(most, std::fabs(value));
  }
  const int64_t n = a.rows();
  SymmetricEigen result;
  if (most == 0) {
    result.values.assign(static_cast<size_t>(n), 0.0);
    result.vectors = Matrix::Identity(n);
    return result;
  }
  // By a power of two, so that nothing is rounded.
  int exponent = 0;
  std::frexp(most, &exponent);
  ScaleBy(std::ldexp(1.0, -exponent), a);
  Tridiagonal t = Reduce(a);
  Matrix vectors = FormOrthogonal(a, t.taus);
  a = Matrix();
  CAIRN_RETURN_IF_ERROR(Diagonalize(t, vectors));
  std::vector<size_t> order(t.diagonal.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) {
    return t.diagonal[i] > t.diagonal[j];
  });
  Doubles row(order.size());
  for (int64_t r = 0; r < n; ++r) {
    double* values = vectors.row(r);
    for (size_t c = 0; c < order.size(); ++c) row[c] = values[order[c]];
    std::copy(row.begin(), row.end(), values);
  }
  for (size_t i : order) {
    result.values.push_back(std::ldexp(t.diagonal[i], exponent));
  }
  result.vectors = std::move(vectors);
  return result;
}

}  // namespace cairn
