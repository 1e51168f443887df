#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

// Divides each singular value of a merge by how much of the direction the
// inputs find in it, on average. `merged`: which of the taus is the merge;
// none: their sum is.
absl::StatusOr<Matrix> Calibrate(const std::vector<MatrixView>& taus,
                                 std::optional<size_t> merged,
                                 double tolerance, double alpha) {
  CAIRN_ASSIGN_OR_RETURN(
      Svd svd, DecomposeSingular(merged ? Matrix(taus[*merged]) : SumOf(taus),
                                 tolerance));
  std::vector<double> found(svd.values.size(), 0.0);
  std::vector<int> inputs(svd.values.size(), 0);
  for (size_t t = 0; t < taus.size(); ++t) {
    if (merged == t) continue;
    // Row r: u_r^T tau.
    const Matrix rows =
        Multiply(MatrixView(svd.left).Transposed(), taus[t]);
    for (int64_t r = 0; r < svd.rank(); ++r) {
      const MatrixView row = MatrixView(rows).Rows(r, 1);
      const double length = Dot(row, row);
      if (!(length > 0)) continue;  // says nothing about this direction
      const double along =
          Dot(row, MatrixView(svd.right).Columns(r, 1).Transposed());
      const auto at = static_cast<size_t>(r);
      found[at] += std::max(alpha, svd.values[at] * along / length);
      ++inputs[at];
    }
  }
  for (size_t r = 0; r < found.size(); ++r) {
    if (inputs[r] > 0) svd.values[r] *= inputs[r] / found[r];
  }
  return Compose(svd);
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeSvc(MethodTask task) {
  std::optional<size_t> merged;
  const std::vector<size_t> others = task.Others();
  for (size_t k = 0; k < others.size(); ++k) {
    if (task.inputs[others[k]].parameters.at("merged") == 0) continue;
    if (merged) {
      return absl::InvalidArgumentError(
          "parameter merged: only one of the models can be the merge");
    }
    merged = k;
  }
  if (merged && others.size() < 2) {
    return absl::InvalidArgumentError(
        "parameter merged: the models that were merged are missing");
  }
  const double tolerance = task.Shared("tolerance");
  const double alpha = task.Shared("alpha");
  const bool is_matrix = IsMatrixTask(task);
  const int64_t rows = RowsOf(task), columns = ColumnsOf(task);
  const int64_t work = is_matrix ? 8 * 2 * std::min(rows, columns) * columns +
                                       SingularBytes(rows, columns)
                                 : 0;
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [=](const std::vector<MatrixView>& taus) -> absl::StatusOr<Matrix> {
        if (is_matrix) return Calibrate(taus, merged, tolerance, alpha);
        // What is no matrix stays as it was merged.
        if (merged) return Matrix(taus[*merged]);
        Matrix mean = SumOf(taus);
        ScaleBy(1 / static_cast<double>(taus.size()), mean);
        return mean;
      },
      work);
}

}  // namespace

MethodSpec SvcMethod() {
  std::vector<MethodParameter> parameters = MatrixParameters(1.0);
  parameters.push_back(SharedNumber("alpha", 0.5, 1e-6, kLargest));
  parameters.push_back({.name = "merged",
                        .scope = MethodParameter::Scope::kOther,
                        .kind = MethodParameter::Kind::kBool,
                        .fallback = 0.0,
                        .least = 0,
                        .most = 1});
  return {.name = "svc",
          .source =
              "arXiv 2602.05536: calibrates the singular values of a merge M, "
              "which is the model marked `merged` or the sum of taus: sigma_r "
              "x n / sum over the inputs of max(alpha, p), p = <u_r^T M, u_r^T "
              "tau> / |u_r^T tau|^2",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = std::move(parameters),
          .make = MakeSvc};
}

}  // namespace cairn
