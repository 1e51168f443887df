#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/method/matrix_method.h"
#include "merge/method/method_makers.h"

namespace cairn {
namespace {

// `tau` without what it has along the singular directions of `merged`: the
// diagonal of U^T tau V, and of its first directions, which carry the share
// `alpha` of the values, everything.
absl::StatusOr<Matrix> Cleaned(const MatrixView& tau, const Matrix& merged,
                               double tolerance, double alpha) {
  CAIRN_ASSIGN_OR_RETURN(const Svd svd, DecomposeSingular(merged, tolerance));
  Matrix clean(tau);
  if (svd.rank() == 0) return clean;
  double total = 0, sum = 0;
  for (double value : svd.values) total += value;
  int64_t split = 0;
  for (double value : svd.values) {
    sum += value;
    if (sum / total > alpha) break;
    ++split;
  }
  const Matrix rows = Multiply(MatrixView(svd.left).Transposed(), tau);
  Matrix removed(svd.rank(), svd.rank());  // in the basis of U and V
  const Matrix head = Multiply(MatrixView(rows).Rows(0, split),
                               MatrixView(svd.right).Columns(0, split));
  for (int64_t r = 0; r < svd.rank(); ++r) {
    if (r < split) {
      std::copy_n(head.row(r), split, removed.row(r));
    } else {
      removed(r, r) =
          Dot(MatrixView(rows).Rows(r, 1),
              MatrixView(svd.right).Columns(r, 1).Transposed());
    }
  }
  AddProduct(-1.0, Multiply(svd.left, removed),
             MatrixView(svd.right).Transposed(), clean);
  return clean;
}

absl::StatusOr<Matrix> MergeOpcm(const std::vector<MatrixView>& taus,
                                 bool is_matrix, double tolerance,
                                 double alpha) {
  Matrix merged(taus[0]);
  double norms = Norm(taus[0]);
  for (size_t t = 1; t < taus.size(); ++t) {
    Matrix next(taus[t]);
    if (is_matrix) {
      CAIRN_ASSIGN_OR_RETURN(next, Cleaned(taus[t], merged, tolerance, alpha));
    }
    for (size_t i = 0; i < next.values().size(); ++i) {
      merged.values()[i] += next.values()[i];
    }
    norms += Norm(taus[t]);
  }
  const double length = Norm(merged);
  if (length > 0) {
    ScaleBy(norms / static_cast<double>(taus.size()) / length, merged);
  }
  return merged;
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeOpcm(MethodTask task) {
  const double tolerance = task.Shared("tolerance");
  const double alpha = task.Shared("alpha");
  const bool is_matrix = IsMatrixTask(task);
  const int64_t work =
      8 * task.elements() +
      (is_matrix ? 8 * 2 * task.elements() +
                       SingularBytes(RowsOf(task), ColumnsOf(task))
                 : 0);
  return std::make_unique<MatrixMethod>(
      std::move(task),
      [=](const std::vector<MatrixView>& taus) {
        return MergeOpcm(taus, is_matrix, tolerance, alpha);
      },
      work);
}

}  // namespace

MethodSpec OpcmMethod() {
  std::vector<MethodParameter> parameters = MatrixParameters(1.0);
  parameters.push_back(SharedNumber("alpha", 0.5, 0, 1));
  return {.name = "opcm",
          .source =
              "arXiv 2501.09522: one tau after the other, each without what "
              "lies along the singular directions of those before; the result "
              "has the mean length of the taus, tensor by tensor",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_symmetric = false,
          .is_on_deltas = true,
          .parameters = std::move(parameters),
          .make = MakeOpcm};
}

}  // namespace cairn
