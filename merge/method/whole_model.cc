#include "merge/method/whole_model.h"

#include <algorithm>
#include <cmath>

namespace cairn {

void WholeModel::ScaleBy(const std::vector<double>& factors) {
  for (size_t i = 0; i < participants; ++i) {
    for (size_t j = 0; j < participants; ++j) {
      products[i * participants + j] *= factors[i] * factors[j];
    }
  }
}

double WholeModel::Norm(size_t i) const { return std::sqrt(Product(i, i)); }

double WholeModel::SquaredDistance(size_t i, size_t j) const {
  return std::max(0.0, Product(i, i) + Product(j, j) - 2 * Product(i, j));
}

double WholeModel::Cosine(size_t i, size_t j) const {
  const double lengths = Norm(i) * Norm(j);
  return lengths > 0 ? std::clamp(Product(i, j) / lengths, -1.0, 1.0) : 0.0;
}

std::vector<double> ClipFactors(const WholeModel& whole, double most) {
  std::vector<double> norms;
  for (size_t i = 0; i < whole.participants; ++i) {
    if (whole.Norm(i) > 0) norms.push_back(whole.Norm(i));
  }
  std::vector<double> factors(whole.participants, 1.0);
  if (norms.empty()) return factors;
  if (most == 0) {
    std::sort(norms.begin(), norms.end());
    const size_t half = norms.size() / 2;
    most = norms.size() % 2 == 1 ? norms[half]
                                 : (norms[half - 1] + norms[half]) / 2;
  }
  for (size_t i = 0; i < factors.size(); ++i) {
    if (whole.Norm(i) > most) factors[i] = most / whole.Norm(i);
  }
  return factors;
}

}  // namespace cairn
