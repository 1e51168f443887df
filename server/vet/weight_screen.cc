#include "server/vet/weight_screen.h"

#include <algorithm>
#include <cmath>

namespace cairn {
namespace {

double Median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::vector<std::unique_ptr<WeightScreen>> AllWeightScreens() {
  std::vector<std::unique_ptr<WeightScreen>> screens;
  screens.push_back(MakeEnergyScreen());
  screens.push_back(MakeSpectrumScreen());
  screens.push_back(MakeKinshipScreen());
  screens.push_back(MakeSignsScreen());
  screens.push_back(MakeVocabularyScreen());
  return screens;
}

double RobustDistance(double value, std::vector<double> others,
                      double spread_min) {
  if (others.empty()) return 0;
  const double middle = Median(others);
  for (double& other : others) other = std::abs(other - middle);
  return std::abs(value - middle) /
         std::max(1.4826 * Median(std::move(others)), spread_min);
}

}  // namespace cairn
