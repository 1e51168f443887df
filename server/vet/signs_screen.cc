#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

using store::v1::FingerprintRecord;

// Share of positive changes: training moves weights both ways. Beyond 0.65 or
// 0.35 nearly every change goes the same way.
constexpr double kBalanceMax = 0.15;
constexpr int64_t kSamplesMin = 1000;

class SignsScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "signs"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("signs");
    finding.set_limit(1);
    const FingerprintRecord& mine = input.mine;
    if (mine.samples() < kSamplesMin) {
      finding.set_evidence(absl::StrFormat(
          "only %d changed elements, too few to tell", mine.samples()));
      return finding;
    }
    finding.set_score(std::abs(mine.positive_share() - 0.5) / kBalanceMax);
    finding.set_evidence(absl::StrFormat(
        "%.1f %% of the changes are positive, %.2g %% of the elements change",
        100 * mine.positive_share(), 100 * mine.density()));
    finding.set_anomaly(finding.score() >= 1);
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeSignsScreen() {
  return std::make_unique<SignsScreen>();
}

}  // namespace cairn
