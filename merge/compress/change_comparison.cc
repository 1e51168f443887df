#include "merge/compress/change_comparison.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/status_macros.h"
#include "core/update/coded_layout.h"
#include "merge/compress/low_rank_fit.h"
#include "merge/matrix/decompose.h"
#include "merge/matrix/matrix.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 16;
// Directions of less than this share of the largest are not a space.
constexpr double kTolerance = 1e-6;

// Columns that span the same as those of `matrix`.
absl::StatusOr<Matrix> SpanOf(const MatrixView& matrix) {
  CAIRN_ASSIGN_OR_RETURN(Basis basis, OrthonormalBasis(matrix, kTolerance));
  return std::move(basis.q);
}

double SharedPart(const Matrix& a, const Matrix& b) {
  const int64_t smaller = std::min(a.columns(), b.columns());
  if (smaller == 0) return 0;
  const double norm = Norm(Multiply(MatrixView(a).Transposed(), b));
  return norm * norm / static_cast<double>(smaller);
}

absl::StatusOr<double> OverlapOf(const TensorDelta& a, const TensorDelta& b,
                                 const TensorSpec& tensor, int64_t directions) {
  const auto [rows, columns] = FactorShapeOf(tensor.shape);
  Matrix left[2], right[2];
  const TensorDelta* const both[2] = {&a, &b};
  for (int i = 0; i < 2; ++i) {
    CAIRN_ASSIGN_OR_RETURN(
        const FittedFactors fit,
        FitLowRank(*both[i], rows, columns, directions, tensor.name));
    if (fit.rank == 0) return 0.0;
    CAIRN_ASSIGN_OR_RETURN(left[i],
                           SpanOf(MatrixView(fit.left.data(), rows, fit.rank)));
    CAIRN_ASSIGN_OR_RETURN(
        right[i],
        SpanOf(MatrixView(fit.right.data(), fit.rank, columns).Transposed()));
  }
  return (SharedPart(left[0], left[1]) + SharedPart(right[0], right[1])) / 2;
}

}  // namespace

absl::StatusOr<TensorComparison> CompareTensors(const TensorDelta& a,
                                                const TensorDelta& b,
                                                const TensorSpec& tensor,
                                                int64_t directions) {
  TensorComparison out{.elements = tensor.elements()};
  std::vector<float> left, right;
  for (int64_t first = 0; first < out.elements; first += kTileElements) {
    left.resize(
        static_cast<size_t>(std::min(kTileElements, out.elements - first)));
    right.resize(left.size());
    CAIRN_RETURN_IF_ERROR(a.Read(first, absl::MakeSpan(left)));
    CAIRN_RETURN_IF_ERROR(b.Read(first, absl::MakeSpan(right)));
    for (size_t i = 0; i < left.size(); ++i) {
      const double l = left[i], r = right[i];
      out.differing += left[i] != right[i];
      out.both += l != 0 && r != 0;
      out.opposed += (l > 0 && r < 0) || (l < 0 && r > 0);
      out.norm_a += l * l;
      out.norm_b += r * r;
      out.norm_difference += (r - l) * (r - l);
      out.product += l * r;
    }
  }
  out.norm_a = std::sqrt(out.norm_a);
  out.norm_b = std::sqrt(out.norm_b);
  out.norm_difference = std::sqrt(out.norm_difference);
  const bool is_matrix = tensor.shape.size() >= 2 && out.elements > 0;
  const bool is_finite = std::isfinite(out.norm_a) && std::isfinite(out.norm_b);
  if (directions > 0 && is_matrix && is_finite) {
    CAIRN_ASSIGN_OR_RETURN(out.overlap, OverlapOf(a, b, tensor, directions));
  }
  return out;
}

}  // namespace cairn
