#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

// All singular values become their mean.
absl::StatusOr<Matrix> MergeIsoC(const std::vector<MatrixView>& taus,
                                 double tolerance) {
  CAIRN_ASSIGN_OR_RETURN(Svd svd, DecomposeSingular(SumOf(taus), tolerance));
  if (svd.rank() == 0) return Matrix(taus[0].rows, taus[0].columns);
  svd.values.assign(svd.values.size(), Mean(svd.values));
  return Compose(svd);
}

void CopyColumns(const Matrix& from, int64_t count, Matrix& to, int64_t at) {
  for (int64_t r = 0; r < from.rows(); ++r) {
    std::copy_n(from.row(r), count, to.row(r) + at);
  }
}

// `common` directions of the sum, and as many for each input of what lies
// beside them.
absl::StatusOr<Matrix> MergeIsoCts(const std::vector<MatrixView>& taus,
                                   double tolerance, double fraction) {
  CAIRN_ASSIGN_OR_RETURN(Svd sum, DecomposeSingular(SumOf(taus), tolerance));
  const auto inputs = static_cast<int64_t>(taus.size());
  const int64_t n = sum.rank();
  if (n == 0) return Matrix(taus[0].rows, taus[0].columns);
  const auto wanted =
      static_cast<int64_t>(fraction * static_cast<double>(n));
  // As many for each, by rounding half to even as the paper's code does.
  const auto each = static_cast<int64_t>(std::nearbyint(
      static_cast<double>(n - wanted) / static_cast<double>(inputs)));
  const int64_t common = std::max<int64_t>(0, n - each * inputs);
  Matrix left(taus[0].rows, common + each * inputs);
  Matrix right(taus[0].columns, common + each * inputs);
  std::vector<double> values(sum.values.begin(), sum.values.begin() + common);
  CopyColumns(sum.left, common, left, 0);
  CopyColumns(sum.right, common, right, 0);
  const Matrix basis(MatrixView(sum.left).Columns(0, common));
  sum = Svd();
  for (const MatrixView& tau : taus) {
    if (each == 0) break;
    Matrix rest(tau);
    AddProduct(-1.0, basis, Multiply(MatrixView(basis).Transposed(), tau),
               rest);
    CAIRN_ASSIGN_OR_RETURN(const Svd own,
                           DecomposeSingular(rest, tolerance, each));
    const auto at = static_cast<int64_t>(values.size());
    CopyColumns(own.left, own.rank(), left, at);
    CopyColumns(own.right, own.rank(), right, at);
    values.insert(values.end(), own.values.begin(), own.values.end());
  }
  const auto used = static_cast<int64_t>(values.size());
  CAIRN_ASSIGN_OR_RETURN(Matrix u,
                         PolarFactor(MatrixView(left).Columns(0, used)));
  CAIRN_ASSIGN_OR_RETURN(const Matrix v,
                         PolarFactor(MatrixView(right).Columns(0, used)));
  ScaleBy(Mean(values), u);
  return Multiply(u, MatrixView(v).Transposed());
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeIsoC(MethodTask task) {
  if (!IsMatrixTask(task)) return MakeMeanMethod(task);
  const double tolerance = task.Shared("tolerance");
  const int64_t work =
      8 * task.elements() + SingularBytes(RowsOf(task), ColumnsOf(task));
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [tolerance](const std::vector<MatrixView>& taus) {
        return MergeIsoC(taus, tolerance);
      },
      work);
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeIsoCts(MethodTask task) {
  if (!IsMatrixTask(task)) return MakeMeanMethod(task);
  const double tolerance = task.Shared("tolerance");
  const double fraction = task.Shared("common");
  const int64_t rows = RowsOf(task), columns = ColumnsOf(task);
  const int64_t n = std::min(rows, columns);
  const int64_t work = 8 * (task.elements() + 3 * (rows + columns) * n) +
                       SingularBytes(rows, columns);
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [tolerance, fraction](const std::vector<MatrixView>& taus) {
        return MergeIsoCts(taus, tolerance, fraction);
      },
      work);
}

}  // namespace

std::vector<MethodSpec> IsoMethods() {
  std::vector<MethodParameter> with_common = MatrixParameters(1.0);
  with_common.push_back(SharedNumber("common", 0.8, 0, 1));
  return {{.name = "iso_c",
           .source =
               "arXiv 2502.04959: the sum of taus with every singular value "
               "replaced by their mean; other tensors are averaged",
           .base = MethodSpec::Base::kRequired,
           .others_min = 1,
           .is_on_deltas = true,
           .parameters = MatrixParameters(1.0),
           .make = MakeIsoC},
          {.name = "iso_cts",
           .source =
               "arXiv 2502.04959: the share `common` of the sum's singular "
               "directions, filled up with each input's first ones outside of "
               "them, made orthogonal, all with the mean of the values",
           .base = MethodSpec::Base::kRequired,
           .others_min = 1,
           .is_on_deltas = true,
           .parameters = std::move(with_common),
           .make = MakeIsoCts}};
}

}  // namespace cairn
