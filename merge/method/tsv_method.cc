#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

// Singular vectors of several matrices side by side.
struct Stack {
  Matrix left, right;
  std::vector<double> values;

  Stack(const MatrixView& like, int64_t width)
      : left(like.rows, width), right(like.columns, width) {}
  void Add(const Svd& svd) {
    const auto at = static_cast<int64_t>(values.size());
    for (int64_t r = 0; r < left.rows(); ++r) {
      std::copy_n(svd.left.row(r), svd.rank(), left.row(r) + at);
    }
    for (int64_t r = 0; r < right.rows(); ++r) {
      std::copy_n(svd.right.row(r), svd.rank(), right.row(r) + at);
    }
    values.insert(values.end(), svd.values.begin(), svd.values.end());
  }
};

absl::StatusOr<Matrix> MergeTsv(const std::vector<MatrixView>& taus,
                                double tolerance) {
  const int64_t n = std::min(taus[0].rows, taus[0].columns);
  const int64_t share = n / static_cast<int64_t>(taus.size());
  Stack stack(taus[0], share * static_cast<int64_t>(taus.size()));
  for (const MatrixView& tau : taus) {
    CAIRN_ASSIGN_OR_RETURN(const Svd svd,
                           DecomposeSingular(tau, tolerance, share));
    stack.Add(svd);
  }
  const auto used = static_cast<int64_t>(stack.values.size());
  if (used == 0) return Matrix(taus[0].rows, taus[0].columns);
  CAIRN_ASSIGN_OR_RETURN(Matrix left,
                         PolarFactor(MatrixView(stack.left).Columns(0, used)));
  CAIRN_ASSIGN_OR_RETURN(
      const Matrix right,
      PolarFactor(MatrixView(stack.right).Columns(0, used)));
  ScaleColumns(stack.values, left);
  return Multiply(left, MatrixView(right).Transposed());
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeTsv(MethodTask task) {
  const int64_t rows = RowsOf(task), columns = ColumnsOf(task);
  const int64_t n = std::min(rows, columns);
  const auto inputs = static_cast<int64_t>(task.Others().size());
  if (!IsMatrixTask(task) || n < inputs) return MakeMeanMethod(task);
  const double tolerance = task.Shared("tolerance");
  // The stacks, one of their factors, and the decompositions' work.
  const int64_t work = 8 * 2 * (rows + columns) * n + SingularBytes(rows, columns);
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [tolerance](const std::vector<MatrixView>& taus) {
        return MergeTsv(taus, tolerance);
      },
      work);
}

}  // namespace

MethodSpec TsvMethod() {
  return {.name = "tsv_m",
          .source =
              "arXiv 2412.00081: of n inputs each gives the first 1/n of its "
              "singular vectors; those are made orthogonal together (U of all, "
              "V of all, each replaced by its polar factor) and carry the "
              "singular values they came with; other tensors, and matrices "
              "with fewer singular values than inputs, are averaged",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = MatrixParameters(1.0),
          .make = MakeTsv};
}

}  // namespace cairn
