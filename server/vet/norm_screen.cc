#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/tensor/tensor_manifest.h"
#include "core/tensor/tensor_norm.h"
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
    for (const TouchedTensor& touched : input.update.touched()) {
      const v1::Tensor* tensor = FindTensor(input.base, touched.name);
      if (tensor == nullptr) continue;  // The base screen refused it.
      CAIRN_ASSIGN_OR_RETURN(double ratio, Ratio(input, *tensor));
      if (ratio <= limit) continue;
      reasons.push_back(TooLarge(touched.name, ratio, limit));
      if (reasons.size() == kReasonsMax) break;
    }
    return reasons;
  }

 private:
  // |tau| / |W|; 0 where the base has no norm to compare with: a tensor of
  // zeros or of whole numbers, which the gate alone judges.
  static absl::StatusOr<double> Ratio(const ScreenInput& input,
                                      const v1::Tensor& tensor) {
    const auto dtype = ParseDType(tensor.dtype());
    if (!dtype.has_value() || !IsNumeric(*dtype)) return 0.0;
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(tensor.sha256()));
    CAIRN_ASSIGN_OR_RETURN(auto base, input.blobs.Open(digest));
    CAIRN_ASSIGN_OR_RETURN(double of_base, FrobeniusNorm(*dtype, *base));
    if (of_base == 0) return 0.0;
    CAIRN_ASSIGN_OR_RETURN(double of_delta,
                           input.update.DeltaNorm(tensor.name(), *base));
    return std::isfinite(of_delta) ? of_delta / of_base : HUGE_VAL;
  }
};

}  // namespace

std::unique_ptr<Screen> MakeNormScreen() {
  return std::make_unique<NormScreen>();
}

}  // namespace cairn
