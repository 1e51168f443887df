#include "core/update/update_statistics.h"
#include "server/flow/reasons.h"
#include "server/vet/screen.h"

namespace cairn {
namespace {

class FiniteScreen : public Screen {
 public:
  absl::string_view name() const override { return "finite"; }

  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const override {
    std::vector<v1::Reason> reasons;
    absl::Status finite = input.update.CheckFinite();
    if (finite.ok() && input.update.statistics() != nullptr) {
      finite = input.update.statistics()->CheckValues();
    }
    if (absl::IsInvalidArgument(finite)) {
      reasons.push_back(ReasonOf(finite));
    } else if (!finite.ok()) {
      return finite;
    }
    return reasons;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeFiniteScreen() {
  return std::make_unique<FiniteScreen>();
}

}  // namespace cairn
