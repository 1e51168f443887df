#include "server/vet/weight_screen.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/update/fingerprint.h"

namespace cairn {

double Median(std::vector<double> values) {
  const auto middle =
      values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Kin NearestKin(const WeightScreenInput& input) {
  Kin nearest;
  for (const store::v1::FingerprintRecord& other : input.others) {
    const double cosine = Cosine(input.mine.sketch(), other.sketch());
    if (std::abs(cosine) <= std::abs(nearest.cosine)) continue;
    nearest = {.cosine = cosine, .other = &other};
  }
  return nearest;
}

v1::Finding FindingOfKin(absl::string_view screen, double limit,
                         const Kin& kin) {
  v1::Finding finding;
  finding.set_screen(std::string(screen));
  finding.set_limit(limit);
  finding.set_score(std::abs(kin.cosine));
  finding.set_anomaly(finding.score() >= limit);
  if (kin.other == nullptr) {
    finding.set_evidence("no update of others to compare with");
  }
  return finding;
}

std::vector<std::unique_ptr<WeightScreen>> AllWeightScreens() {
  std::vector<std::unique_ptr<WeightScreen>> screens;
  screens.push_back(MakeEnergyScreen());
  screens.push_back(MakeSpectrumScreen());
  screens.push_back(MakeKinshipScreen());
  screens.push_back(MakeCollusionScreen());
  screens.push_back(MakeSignsScreen());
  screens.push_back(MakeSparsityScreen());
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
