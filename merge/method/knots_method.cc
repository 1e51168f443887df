#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/symmetric_eigen.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

// The largest magnitudes of a share `density`; all that equal the last stay.
void Trim(double density, Matrix& matrix) {
  std::vector<double> magnitudes;
  magnitudes.reserve(matrix.values().size());
  for (double value : matrix.values()) magnitudes.push_back(std::fabs(value));
  const auto kept = static_cast<size_t>(
      density * static_cast<double>(magnitudes.size()));
  if (kept >= magnitudes.size()) return;
  const auto cut = magnitudes.begin() + static_cast<std::ptrdiff_t>(
                                            kept == 0 ? 0 : kept - 1);
  std::nth_element(magnitudes.begin(), cut, magnitudes.end(),
                   std::greater<double>());
  const double least = *cut;
  for (double& value : matrix.values()) {
    if (std::fabs(value) < least) value = 0;
  }
}

// The mean of those of the elected sign.
Matrix ElectAndMean(const std::vector<Matrix>& parts) {
  Matrix merged(parts[0].rows(), parts[0].columns());
  for (size_t i = 0; i < merged.values().size(); ++i) {
    double total = 0, sum = 0;
    int count = 0;
    for (const Matrix& part : parts) total += part.values()[i];
    for (const Matrix& part : parts) {
      const double value = part.values()[i];
      if (!(value * total > 0)) continue;
      sum += value;
      ++count;
    }
    if (count > 0) merged.values()[i] = sum / count;
  }
  return merged;
}

absl::StatusOr<Matrix> MergeKnots(const std::vector<MatrixView>& taus,
                                  double tolerance, double density) {
  const int64_t rows = taus[0].rows;
  // The left singular vectors of all taus side by side.
  Matrix gram(rows, rows);
  for (const MatrixView& tau : taus) {
    const Matrix one = GramOf(tau.Transposed());
    for (size_t i = 0; i < gram.values().size(); ++i) {
      gram.values()[i] += one.values()[i];
    }
  }
  CAIRN_ASSIGN_OR_RETURN(const SymmetricEigen eigen,
                         DecomposeSymmetric(std::move(gram)));
  int64_t rank = 0;
  const double least =
      std::max(0.0, eigen.values[0]) * std::max(1e-15, tolerance * tolerance);
  while (rank < rows && eigen.values[static_cast<size_t>(rank)] > least) {
    ++rank;
  }
  if (rank == 0) return Matrix(rows, taus[0].columns);
  const MatrixView basis = MatrixView(eigen.vectors).Columns(0, rank);
  std::vector<Matrix> parts;  // Sigma V^T of each
  for (const MatrixView& tau : taus) {
    parts.push_back(Multiply(basis.Transposed(), tau));
    Trim(density, parts.back());
  }
  return Multiply(basis, ElectAndMean(parts));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeKnots(MethodTask task) {
  if (!IsMatrixTask(task)) return MakeMeanMethod(task);
  const double tolerance = task.Shared("tolerance");
  const double density = task.Shared("density");
  const int64_t rows = RowsOf(task);
  const int64_t work =
      8 * (5 * rows * rows +
           task.elements() * static_cast<int64_t>(task.Others().size() + 2));
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [tolerance, density](const std::vector<MatrixView>& taus) {
        return MergeKnots(taus, tolerance, density);
      },
      work);
}

}  // namespace

MethodSpec KnotsMethod() {
  std::vector<MethodParameter> parameters = MatrixParameters(0.6);
  parameters.push_back(SharedNumber("density", 0.2, 0, 1));
  return {.name = "knots_ties",
          .source =
              "arXiv 2410.19735: [tau_1 ... tau_n] = U S [V_1 ... V_n]^T; TIES "
              "on the S V_t^T, tensor by tensor, then U times what it gives; "
              "other tensors are averaged",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = std::move(parameters),
          .make = MakeKnots};
}

}  // namespace cairn
