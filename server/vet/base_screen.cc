#include "server/flow/reasons.h"
#include "server/vet/screen.h"

namespace cairn {
namespace {

class BaseScreen : public Screen {
 public:
  absl::string_view name() const override { return "base"; }

  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const override {
    std::vector<v1::Reason> reasons;
    absl::Status fits =
        CheckAgainstBase(input.update, input.base, input.record.base_digest());
    if (!fits.ok()) reasons.push_back(ReasonOf(fits));
    return reasons;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeBaseScreen() {
  return std::make_unique<BaseScreen>();
}

}  // namespace cairn
