#include "absl/strings/str_format.h"
#include "server/flow/resource_names.h"
#include "server/vet/weight_screen.h"

namespace cairn {
namespace {

// Adapters of one base for different tasks, even from one seed, have cosines
// below 0.2. A half of an update under as much noise of its own has 0.5.
constexpr double kLimit = 0.7;

class KinshipScreen : public WeightScreen {
 public:
  absl::string_view name() const override { return "kinship"; }

  v1::Finding Inspect(const WeightScreenInput& input) const override {
    const Kin kin = NearestKin(input);
    v1::Finding finding = FindingOfKin(name(), kLimit, kin);
    if (kin.other == nullptr) return finding;
    finding.set_evidence(
        absl::StrFormat("cosine %.2f with %s of another author%s", kin.cosine,
                        ShortName(kin.other->contribution()),
                        !finding.anomaly() ? ""
                        : kin.cosine > 0   ? ": a copy or a part of it"
                                           : ": it undoes that update"));
    return finding;
  }
};

}  // namespace

std::unique_ptr<WeightScreen> MakeKinshipScreen() {
  return std::make_unique<KinshipScreen>();
}

}  // namespace cairn
