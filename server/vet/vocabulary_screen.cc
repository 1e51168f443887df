#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

using store::v1::FingerprintRecord;

// The largest eight rows' share of what changes in embeddings and heads.
// Training on text spreads it over many tokens; with only 257 of them an honest
// sparse update had 0.39.
constexpr double kConcentrationMax = 0.6;
// Robust deviations above the accepted updates.
constexpr double kDistanceMax = 4;
// Domains differ in how much a few frequent tokens change: least deviations,
// of the share on the logistic and of the gap on the logarithmic scale.
constexpr double kShareSpreadMin = 0.5;
constexpr double kGapSpreadMin = 0.25;

double Logit(double share) {
  share = std::clamp(share, 1e-6, 1 - 1e-6);
  return std::log(share / (1 - share));
}

// Deviations of `value` above the middle of `others`; 0 below it, and when
// there are too few.
double Above(double value, std::vector<double> others, double spread_min) {
  if (others.size() < kHistoryMin || value <= Median(others)) return 0;
  return RobustDistance(value, std::move(others), spread_min);
}

class VocabularyScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "vocabulary"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("vocabulary");
    finding.set_limit(1);
    const FingerprintRecord& mine = input.mine;
    if (mine.vocabulary_rows() == 0) {
      finding.set_evidence("neither embeddings nor heads change");
      return finding;
    }
    std::vector<double> shares, gaps;
    for (const FingerprintRecord& other : input.accepted) {
      if (other.vocabulary_gap() <= 0) continue;
      shares.push_back(Logit(other.vocabulary_concentration()));
      gaps.push_back(std::log(other.vocabulary_gap()));
    }
    double distance = 0;
    if (mine.vocabulary_gap() > 0) {
      distance = std::max(
          Above(Logit(mine.vocabulary_concentration()), std::move(shares),
                kShareSpreadMin),
          Above(std::log(mine.vocabulary_gap()), std::move(gaps),
                kGapSpreadMin));
    }
    finding.set_score(
        std::max(mine.vocabulary_concentration() / kConcentrationMax,
                 distance / kDistanceMax));
    finding.set_anomaly(finding.score() >= 1);
    finding.set_evidence(absl::StrFormat(
        "%d rows of embeddings and heads change; the largest eight hold "
        "%.0f %% of that, and the first stand out %.3g times from the next; "
        "%.2g deviations above the accepted updates",
        mine.vocabulary_rows(), 100 * mine.vocabulary_concentration(),
        mine.vocabulary_gap(), distance));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeVocabularyScreen() {
  return std::make_unique<VocabularyScreen>();
}

}  // namespace cairn
