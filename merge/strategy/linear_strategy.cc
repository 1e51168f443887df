#include "merge/strategy/linear_strategy.h"

#include <algorithm>
#include <utility>

#include "core/tensor/float_kernels.h"

namespace cairn {

LinearStrategy::LinearStrategy(std::string name,
                               std::map<std::string, std::string> parameters,
                               std::vector<double> coefficients)
    : name_(std::move(name)),
      parameters_(std::move(parameters)),
      coefficients_(std::move(coefficients)) {}

absl::Status LinearStrategy::Prepare(DeltaScan&) { return absl::OkStatus(); }

void LinearStrategy::Combine(absl::Span<const TileDelta> deltas,
                             absl::Span<float> out) const {
  std::fill(out.begin(), out.end(), 0.0f);
  for (const TileDelta& delta : deltas) {
    AddScaled(static_cast<float>(coefficients_[delta.input]), delta.values,
              out);
  }
}

}  // namespace cairn
