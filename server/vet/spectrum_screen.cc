#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

using store::v1::FingerprintRecord;

constexpr double kLimit = 4;
constexpr double kSpreadMin = 0.3;  // on the logistic scale
constexpr int64_t kRankMin = 2;

double Logit(double share) {
  share = std::clamp(share, 1e-6, 1 - 1e-6);
  return std::log(share / (1 - share));
}

// Means over the low-rank layers, weighted by their energy.
struct Spectrum {
  double leading_share = 0;
  double effective_share = 0;  // effective rank / rank
  int64_t layers = 0;
};

Spectrum SpectrumOf(const FingerprintRecord& record) {
  Spectrum out;
  double total = 0;
  for (const auto& layer : record.layers()) {
    if (layer.rank() < kRankMin || layer.norm() <= 0 ||
        layer.leading_share() <= 0) {
      continue;
    }
    const double energy = layer.norm() * layer.norm();
    total += energy;
    out.leading_share += energy * layer.leading_share();
    out.effective_share +=
        energy * layer.effective_rank() / static_cast<double>(layer.rank());
    ++out.layers;
  }
  if (total > 0) {
    out.leading_share /= total;
    out.effective_share /= total;
  }
  return out;
}

class SpectrumScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "spectrum"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("spectrum");
    finding.set_limit(kLimit);
    const Spectrum mine = SpectrumOf(input.mine);
    if (mine.layers == 0) {
      finding.set_evidence("no low-rank products of rank 2 or more");
      return finding;
    }
    std::vector<double> leading, effective;
    for (const FingerprintRecord& other : input.accepted) {
      const Spectrum spectrum = SpectrumOf(other);
      if (spectrum.layers == 0) continue;
      leading.push_back(Logit(spectrum.leading_share));
      effective.push_back(Logit(spectrum.effective_share));
    }
    finding.set_evidence(absl::StrFormat(
        "%.0f %% of the energy in the first direction of each product, an "
        "effective rank of %.0f %% of what the factors allow",
        100 * mine.leading_share, 100 * mine.effective_share));
    if (leading.size() < kHistoryMin) {
      *finding.mutable_evidence() +=
          absl::StrCat("; only ", leading.size(), " accepted ones to compare");
      return finding;
    }
    finding.set_score(
        std::max(RobustDistance(Logit(mine.leading_share), std::move(leading),
                                kSpreadMin),
                 RobustDistance(Logit(mine.effective_share),
                                std::move(effective), kSpreadMin)));
    finding.set_anomaly(finding.score() >= kLimit);
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeSpectrumScreen() {
  return std::make_unique<SpectrumScreen>();
}

}  // namespace cairn
