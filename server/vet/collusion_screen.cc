#include "absl/strings/str_format.h"
#include "server/flow/resource_names.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

// Half of the way from what honest adapters have by chance (0.2) to a copy
// under half its size of noise (0.9 to 0.5, by the noise): two updates that
// share a part without either being a copy.
constexpr double kLimit = 0.35;

class CollusionScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "collusion"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    const Kin kin = NearestKin(input);
    v1::Finding finding = FindingOfKin(name(), kLimit, kin);
    if (kin.other == nullptr) return finding;
    // Of a cosine c with a part that both have in full, c of the energy.
    finding.set_evidence(
        absl::StrFormat("%.0f %% of the change may be shared with %s of "
                        "another author (cosine %.2f)",
                        100 * finding.score(),
                        ShortName(kin.other->contribution()), kin.cosine));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeCollusionScreen() {
  return std::make_unique<CollusionScreen>();
}

}  // namespace cairn
