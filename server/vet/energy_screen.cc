#include <cmath>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

using store::v1::FingerprintRecord;

// Robust deviations; a normal sample of accepted updates passes it once in
// 30,000, small and heavy-tailed ones about once in a hundred.
constexpr double kLimit = 4;
// Natural logarithm: honest recipes differ by a quarter more or less.
constexpr double kSpreadMin = 0.25;

// Logarithm of the change beside the tensors that it touches.
double LogSize(const FingerprintRecord& record) {
  double change = 0, base = 0;
  for (const auto& layer : record.layers()) {
    change += layer.norm() * layer.norm();
    if (layer.ratio() > 0) {
      base += std::pow(layer.norm() / layer.ratio(), 2);
    }
  }
  return change > 0 && base > 0 ? 0.5 * std::log(change / base) : -20;
}

// Logarithm of each layer's share of the whole, by tensor.
std::map<std::string, double> LogShares(const FingerprintRecord& record) {
  double total = 0;
  for (const auto& layer : record.layers())
    total += layer.norm() * layer.norm();
  std::map<std::string, double> out;
  for (const auto& layer : record.layers()) {
    if (layer.norm() <= 0) continue;
    out[layer.tensor()] = std::log(layer.norm()) - 0.5 * std::log(total);
  }
  return out;
}

class EnergyScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "energy"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("energy");
    finding.set_limit(kLimit);
    if (input.accepted.size() < kHistoryMin) {
      finding.set_evidence(absl::StrCat("only ", input.accepted.size(),
                                        " accepted updates to compare with"));
      return finding;
    }
    std::vector<double> sizes;
    std::map<std::string, std::vector<double>> shares;
    for (const FingerprintRecord& other : input.accepted) {
      sizes.push_back(LogSize(other));
      for (const auto& [tensor, share] : LogShares(other)) {
        shares[tensor].push_back(share);
      }
    }
    const double size = LogSize(input.mine);
    finding.set_score(RobustDistance(size, std::move(sizes), kSpreadMin));
    finding.set_evidence(absl::StrFormat(
        "the change has %.3g of the norm of what it touches, %.2g deviations "
        "from the accepted updates",
        std::exp(size), finding.score()));
    LookAtLayers(input.mine, shares, finding);
    finding.set_anomaly(finding.score() >= kLimit);
    return finding;
  }

 private:
  // One layer in a hundred is far out by chance, so a layer's distance counts
  // half, and only where it has more energy than usual.
  static void LookAtLayers(
      const FingerprintRecord& mine,
      const std::map<std::string, std::vector<double>>& shares,
      v1::Finding& finding) {
    for (const auto& [tensor, share] : LogShares(mine)) {
      auto known = shares.find(tensor);
      if (known == shares.end() || known->second.size() < kHistoryMin) continue;
      const double distance =
          0.5 * RobustDistance(share, known->second, kSpreadMin);
      // A layer with less than a tenth of the energy does little by itself.
      if (distance <= finding.score() || share < std::log(0.3)) continue;
      finding.set_score(distance);
      finding.set_tensor(tensor);
      finding.set_evidence(
          absl::StrFormat("tensor %s holds %.0f %% of the energy of the "
                          "change, far from what it usually holds",
                          tensor, 100 * std::exp(2 * share)));
    }
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeEnergyScreen() {
  return std::make_unique<EnergyScreen>();
}

}  // namespace cairn
