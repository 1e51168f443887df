#include "merge/compress/low_rank_fit.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/matrix/decompose.h"
#include "merge/matrix/matrix.h"
#include "merge/method/counter_random.h"

namespace cairn {
namespace {

// Directions searched for beyond those asked for.
constexpr int64_t kSpare = 8;
constexpr int kPowerIterations = 2;
// Elements of the change in memory at a time.
constexpr int64_t kTileElements = 1 << 20;
// Directions below this share of the largest are noise of the arithmetic.
constexpr double kTolerance = 1e-12;

// The change as a matrix that is read in rows.
class Rows {
 public:
  Rows(const TensorDelta& change, int64_t rows, int64_t columns)
      : change_(change), rows_(rows), columns_(columns) {}

  template <typename Visit>
  absl::Status ForEach(Visit visit) const {
    const int64_t step = std::max<int64_t>(1, kTileElements / columns_);
    std::vector<float> tile;
    for (int64_t row = 0; row < rows_; row += step) {
      const int64_t count = std::min(step, rows_ - row);
      tile.resize(static_cast<size_t>(count * columns_));
      CAIRN_RETURN_IF_ERROR(change_.Read(row * columns_, absl::MakeSpan(tile)));
      visit(row, MatrixView(tile.data(), count, columns_));
    }
    return absl::OkStatus();
  }

  // this * right
  absl::StatusOr<Matrix> Times(const Matrix& right) const {
    Matrix out(rows_, right.columns());
    CAIRN_RETURN_IF_ERROR(ForEach([&](int64_t row, const MatrixView& tile) {
      AddProduct(1.0, tile, right, out, row);
    }));
    return out;
  }
  // this^T * left
  absl::StatusOr<Matrix> TransposedTimes(const Matrix& left) const {
    Matrix out(columns_, left.columns());
    CAIRN_RETURN_IF_ERROR(ForEach([&](int64_t row, const MatrixView& tile) {
      AddProduct(1.0, tile.Transposed(), MatrixView(left).Rows(row, tile.rows),
                 out);
    }));
    return out;
  }

 private:
  const TensorDelta& change_;
  const int64_t rows_;
  const int64_t columns_;
};

// Signs at random, which find a range as well as normal numbers do.
Matrix RandomSigns(int64_t rows, int64_t columns, absl::string_view name) {
  const uint64_t key = RandomKey(0, 0, name);
  std::vector<uint32_t> words(static_cast<size_t>(columns));
  Matrix out(rows, columns);
  for (int64_t row = 0; row < rows; ++row) {
    RandomWords(key, row * columns, words.data(), words.size());
    for (int64_t c = 0; c < columns; ++c) {
      out(row, c) = (words[static_cast<size_t>(c)] & 1) != 0 ? 1.0 : -1.0;
    }
  }
  return out;
}

absl::StatusOr<Matrix> Orthonormal(const Matrix& matrix) {
  CAIRN_ASSIGN_OR_RETURN(Basis basis, OrthonormalBasis(matrix, kTolerance));
  return std::move(basis.q);
}

}  // namespace

absl::StatusOr<FittedFactors> FitLowRank(const TensorDelta& change,
                                         int64_t rows, int64_t columns,
                                         int64_t rank, absl::string_view name) {
  const Rows matrix(change, rows, columns);
  const int64_t width = std::min({rank + kSpare, rows, columns});
  CAIRN_ASSIGN_OR_RETURN(Matrix sampled,
                         matrix.Times(RandomSigns(columns, width, name)));
  CAIRN_ASSIGN_OR_RETURN(Matrix range, Orthonormal(sampled));
  for (int i = 0; i < kPowerIterations && range.columns() > 0; ++i) {
    CAIRN_ASSIGN_OR_RETURN(Matrix co, matrix.TransposedTimes(range));
    CAIRN_ASSIGN_OR_RETURN(co, Orthonormal(co));
    CAIRN_ASSIGN_OR_RETURN(range, matrix.Times(co));
    CAIRN_ASSIGN_OR_RETURN(range, Orthonormal(range));
  }
  FittedFactors out;
  if (range.columns() == 0) return out;
  // change^T * range = right * diag(values) * left^T, a small decomposition.
  CAIRN_ASSIGN_OR_RETURN(Matrix core, matrix.TransposedTimes(range));
  CAIRN_ASSIGN_OR_RETURN(const Svd svd,
                         DecomposeSingular(core, kTolerance, rank));
  const Matrix left = Multiply(range, svd.right);
  out.rank = svd.rank();
  out.left.reserve(static_cast<size_t>(rows * out.rank));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t k = 0; k < out.rank; ++k) {
      out.left.push_back(static_cast<float>(
          left(row, k) * std::sqrt(svd.values[static_cast<size_t>(k)])));
    }
  }
  out.right.reserve(static_cast<size_t>(out.rank * columns));
  for (int64_t k = 0; k < out.rank; ++k) {
    const double scale = std::sqrt(svd.values[static_cast<size_t>(k)]);
    for (int64_t c = 0; c < columns; ++c) {
      out.right.push_back(static_cast<float>(svd.left(c, k) * scale));
    }
  }
  return out;
}

}  // namespace cairn
