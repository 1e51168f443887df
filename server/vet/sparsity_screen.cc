#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_format.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

// A density that is so many times another's is unlike it: low-rank updates
// change all elements, sparse ones a thousandth to a tenth, and an edit of a few
// weights a millionth.
constexpr double kFactor = 30;

class SparsityScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "sparsity"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("sparsity");
    finding.set_limit(1);
    if (input.mine.density() <= 0) {
      finding.set_evidence("which elements change was not looked at");
      return finding;
    }
    const double mine = std::log(input.mine.density());
    double nearest = HUGE_VAL;
    size_t compared = 0;
    for (const auto& other : input.accepted) {
      if (other.density() <= 0) continue;
      nearest = std::min(nearest, std::abs(mine - std::log(other.density())));
      ++compared;
    }
    if (compared >= kHistoryMin) {
      finding.set_score(nearest / std::log(kFactor));
    }
    finding.set_anomaly(finding.score() >= 1);
    finding.set_evidence(absl::StrFormat(
        "%.2g %% of the elements change; %d accepted updates to compare with",
        100 * input.mine.density(), compared));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeSparsityScreen() {
  return std::make_unique<SparsityScreen>();
}

}  // namespace cairn
