#include "core/update/low_rank_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 21;
// Two Gram matrices of this rank take 64 MB.
constexpr int64_t kGramRankMax = 2048;

size_t Size(int64_t count) { return static_cast<size_t>(count); }

// gram += line * line^T, for the columns from the diagonal on.
void AddOuterProduct(absl::Span<const float> line, std::vector<double>& gram) {
  const size_t rank = line.size();
  for (size_t i = 0; i < rank; ++i) {
    const double factor = line[i];
    double* row = gram.data() + i * rank;
    for (size_t k = i; k < rank; ++k) row[k] += factor * line[k];
  }
}

// B^T * B.
absl::StatusOr<std::vector<double>> GramOfB(const StreamedProduct& p) {
  std::vector<double> gram(Size(p.rank * p.rank));
  const int64_t rows =
      std::min(p.out, std::max<int64_t>(1, kTileElements / p.rank));
  std::vector<float> tile(Size(rows * p.rank));
  for (int64_t first = 0; first < p.out; first += rows) {
    const int64_t count = std::min(rows, p.out - first);
    auto part = absl::MakeSpan(tile).subspan(0, Size(count * p.rank));
    CAIRN_RETURN_IF_ERROR(p.read_b(first * p.rank, part));
    for (int64_t i = 0; i < count; ++i) {
      AddOuterProduct(part.subspan(Size(i * p.rank), Size(p.rank)), gram);
    }
  }
  return gram;
}

// A * A^T.
absl::StatusOr<std::vector<double>> GramOfA(const StreamedProduct& p) {
  std::vector<double> gram(Size(p.rank * p.rank));
  const int64_t columns =
      std::min(p.in, std::max<int64_t>(1, kTileElements / p.rank));
  std::vector<float> tile(Size(columns * p.rank));
  std::vector<float> line(Size(p.rank));
  for (int64_t first = 0; first < p.in; first += columns) {
    const int64_t count = std::min(columns, p.in - first);
    for (int64_t k = 0; k < p.rank; ++k) {
      CAIRN_RETURN_IF_ERROR(
          p.read_a(k * p.in + first,
                   absl::MakeSpan(tile).subspan(Size(k * count), Size(count))));
    }
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t k = 0; k < p.rank; ++k) {
        line[Size(k)] = tile[Size(k * count + i)];
      }
      AddOuterProduct(line, gram);
    }
  }
  return gram;
}

// |B A|^2 = sum over i, k of (A A^T)[i, k] * (B^T B)[i, k], both symmetric.
absl::StatusOr<double> SquareByGram(const StreamedProduct& p) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<double> a, GramOfA(p));
  CAIRN_ASSIGN_OR_RETURN(std::vector<double> b, GramOfB(p));
  const size_t rank = Size(p.rank);
  double total = 0.0;
  for (size_t i = 0; i < rank; ++i) {
    total += a[i * rank + i] * b[i * rank + i];
    for (size_t k = i + 1; k < rank; ++k) {
      total += 2.0 * a[i * rank + k] * b[i * rank + k];
    }
  }
  return total;
}

// The squares of the product itself, some rows of it at a time.
absl::StatusOr<double> SquareByRows(const StreamedProduct& p) {
  const int64_t rows =
      std::clamp<int64_t>(kTileElements / std::max(p.rank, p.in), 1, p.out);
  const int64_t lines = std::clamp<int64_t>(kTileElements / p.in, 1, p.rank);
  std::vector<float> b(Size(rows * p.rank));
  std::vector<float> a(Size(lines * p.in));
  std::vector<double> block(Size(rows * p.in));
  double total = 0.0;
  for (int64_t first = 0; first < p.out; first += rows) {
    const int64_t count = std::min(rows, p.out - first);
    CAIRN_RETURN_IF_ERROR(p.read_b(
        first * p.rank, absl::MakeSpan(b).subspan(0, Size(count * p.rank))));
    std::fill(block.begin(), block.end(), 0.0);
    for (int64_t line = 0; line < p.rank; line += lines) {
      const int64_t n = std::min(lines, p.rank - line);
      CAIRN_RETURN_IF_ERROR(
          p.read_a(line * p.in, absl::MakeSpan(a).subspan(0, Size(n * p.in))));
      for (int64_t o = 0; o < count; ++o) {
        double* row = block.data() + o * p.in;
        for (int64_t k = 0; k < n; ++k) {
          const double factor = b[Size(o * p.rank + line + k)];
          const float* values = a.data() + k * p.in;
          for (int64_t i = 0; i < p.in; ++i) row[i] += factor * values[i];
        }
      }
    }
    for (double value : block) total += value * value;
  }
  return total;
}

}  // namespace

absl::StatusOr<double> LowRankNorm(const StreamedProduct& product) {
  const auto rank = static_cast<double>(product.rank);
  const auto in = static_cast<double>(product.in);
  const auto out = static_cast<double>(product.out);
  const bool by_rows =
      product.rank > kGramRankMax || in * out < rank * (in + out) / 2;
  CAIRN_ASSIGN_OR_RETURN(
      double square, by_rows ? SquareByRows(product) : SquareByGram(product));
  // Rounding can take a square that is zero a little below it; a NaN stays.
  if (square < 0.0) square = 0.0;
  return std::abs(product.scale) * std::sqrt(square);
}

}  // namespace cairn
