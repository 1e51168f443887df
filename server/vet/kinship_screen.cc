#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "core/update/fingerprint.h"
#include "server/flow/resource_names.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

using store::v1::FingerprintRecord;

// Adapters of one base for different tasks, even from one seed, have cosines
// below 0.2. A half of an update under as much noise of its own has 0.5.
constexpr double kLimit = 0.7;

class KinshipScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "kinship"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    v1::Finding finding;
    finding.set_screen("kinship");
    finding.set_limit(kLimit);
    const std::vector<float> mine(input.mine.sketch().begin(),
                                  input.mine.sketch().end());
    double nearest = 0;
    const FingerprintRecord* kin = nullptr;
    for (const FingerprintRecord& other : input.others) {
      const std::vector<float> theirs(other.sketch().begin(),
                                      other.sketch().end());
      const double cosine = Cosine(mine, theirs);
      if (std::abs(cosine) <= std::abs(nearest)) continue;
      nearest = cosine;
      kin = &other;
    }
    finding.set_score(std::abs(nearest));
    finding.set_anomaly(finding.score() >= kLimit);
    finding.set_evidence(
        kin == nullptr
            ? "no update of others to compare with"
            : absl::StrFormat("cosine %.2f with %s of another author%s",
                              nearest, ShortName(kin->contribution()),
                              !finding.anomaly() ? ""
                              : nearest > 0      ? ": a copy or a part of it"
                                                 : ": it undoes that update"));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeKinshipScreen() {
  return std::make_unique<KinshipScreen>();
}

}  // namespace cairn
