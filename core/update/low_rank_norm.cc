#include "core/update/low_rank_norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace cairn {
namespace {

// |B A|^2 summed over rows of the product; needs one row of memory.
double SquareByRows(const LoraFactors& f) {
  const auto in = static_cast<size_t>(f.in);
  const auto rank = static_cast<size_t>(f.rank);
  std::vector<double> row(in);
  double total = 0.0;
  for (size_t o = 0; o < static_cast<size_t>(f.out); ++o) {
    std::fill(row.begin(), row.end(), 0.0);
    for (size_t k = 0; k < rank; ++k) {
      const double factor = f.b[o * rank + k];
      const float* a = f.a.data() + k * in;
      for (size_t i = 0; i < in; ++i) row[i] += factor * a[i];
    }
    for (double value : row) total += value * value;
  }
  return total;
}

// |B A|^2 = sum over i, j of (A A^T)[i, j] * (B^T B)[i, j], both symmetric;
// row i of each at a time.
double SquareByGram(const LoraFactors& f) {
  const auto in = static_cast<size_t>(f.in);
  const auto out = static_cast<size_t>(f.out);
  const auto rank = static_cast<size_t>(f.rank);
  std::vector<double> gram_a(rank);
  std::vector<double> gram_b(rank);
  // A^T, so that the inner loops run over neighbouring memory.
  std::vector<float> a_transposed(in * rank);
  for (size_t k = 0; k < rank; ++k) {
    for (size_t i = 0; i < in; ++i) {
      a_transposed[i * rank + k] = f.a[k * in + i];
    }
  }
  auto gram_row = [rank](const std::vector<float>& m, size_t rows, size_t at,
                         std::vector<double>& row) {
    std::fill(row.begin(), row.end(), 0.0);
    for (size_t n = 0; n < rows; ++n) {
      const float* line = m.data() + n * rank;
      const double factor = line[at];
      for (size_t k = 0; k < rank; ++k) row[k] += factor * line[k];
    }
  };
  double total = 0.0;
  for (size_t i = 0; i < rank; ++i) {
    gram_row(a_transposed, in, i, gram_a);
    gram_row(f.b, out, i, gram_b);
    for (size_t k = 0; k < rank; ++k) total += gram_a[k] * gram_b[k];
  }
  return total;
}

}  // namespace

double LowRankNorm(const LoraFactors& factors) {
  const double rank = static_cast<double>(factors.rank);
  const double in = static_cast<double>(factors.in);
  const double out = static_cast<double>(factors.out);
  const bool by_rows = in * out < rank * (in + out);
  // Rounding can take a square that is zero a little below it.
  const double square = by_rows ? SquareByRows(factors) : SquareByGram(factors);
  return std::abs(factors.scale) * std::sqrt(square < 0.0 ? 0.0 : square);
}

}  // namespace cairn
