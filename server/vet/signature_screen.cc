#include "core/update/manifest.h"
#include "server/flow/reasons.h"
#include "server/vet/screen.h"

namespace cairn {
namespace {

class SignatureScreen : public Screen {
 public:
  absl::string_view name() const override { return "signature"; }

  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const override {
    std::vector<v1::Reason> reasons;
    if (input.record.contribution().attested_by() == "hub") return reasons;
    v1::ContributionManifest manifest;
    if (!manifest.ParseFromString(input.record.manifest())) {
      return absl::DataLossError("the stored manifest cannot be parsed");
    }
    absl::Status verified = VerifyManifest(manifest, input.record.manifest(),
                                           input.record.signature());
    if (!verified.ok()) reasons.push_back(ReasonOf(verified));
    return reasons;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeSignatureScreen() {
  return std::make_unique<SignatureScreen>();
}

}  // namespace cairn
