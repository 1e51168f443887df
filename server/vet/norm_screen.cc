#include "absl/strings/str_format.h"
#include "server/flow/reasons.h"
#include "server/vet/screen.h"

namespace cairn {
namespace {

// Reasons given at most: an update that is scaled up as a whole breaks the
// limit in every tensor.
constexpr size_t kReasonsMax = 8;

v1::Reason TooLarge(const std::string& tensor, double ratio, double limit) {
  v1::Reason reason = MakeReason(
      v1::Reason::NORM_TOO_LARGE,
      absl::StrFormat("the change of tensor %s has %.3g times the norm of the "
                      "tensor itself; at most %.3g times is merged: train "
                      "with a smaller rate or scale",
                      tensor, ratio, limit));
  reason.set_tensor(tensor);
  reason.set_measured(ratio);
  reason.set_limit(limit);
  return reason;
}

class NormScreen : public Screen {
 public:
  absl::string_view name() const override { return "norm"; }

  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const ScreenInput& input) const override {
    const double limit = input.policy.norm_ratio_max();
    std::vector<v1::Reason> reasons;
    for (const auto& layer : input.fingerprint->layers()) {
      if (layer.ratio() <= limit) continue;
      reasons.push_back(TooLarge(layer.tensor(), layer.ratio(), limit));
      if (reasons.size() == kReasonsMax) break;
    }
    return reasons;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeNormScreen() {
  return std::make_unique<NormScreen>();
}

}  // namespace cairn
