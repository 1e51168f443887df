#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

class Fisher : public TensorMethod {
 public:
  // `fishers`: of each of the others, where its Fisher diagonal is among the
  // inputs.
  Fisher(MethodTask task, std::vector<size_t> fishers)
      : task_(std::move(task)),
        others_(task_.Others()),
        fishers_(std::move(fishers)),
        lambda_(static_cast<float>(task_.Shared("lambda"))),
        floor_(static_cast<float>(task_.Shared("floor"))),
        squares_(others_.size(), 0.0),
        factors_(others_.size(), 1.0f) {}

  int passes() const override { return 1; }

  void Observe(int, const InputTile& tile) override {
    for (size_t k = 0; k < fishers_.size(); ++k) {
      const float* values = tile.inputs[fishers_[k]];
      AddDot(values, values, tile.count, squares_[k]);
      for (size_t i = 0; i < tile.count; ++i) {
        // A NaN is not at least 0 either.
        if (!(values[i] >= 0) && wrong_ == fishers_.size()) wrong_ = k;
      }
    }
  }

  absl::Status EndPass(int) override {
    if (wrong_ < fishers_.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("the Fisher diagonal of model ", wrong_ + 1,
                       " holds a value that is not at least 0"));
    }
    const auto elements = static_cast<double>(task_.elements());
    for (size_t k = 0; k < others_.size(); ++k) {
      double scale = task_.inputs[others_[k]].parameters.at("weight");
      // So that nobody gains weight by larger numbers alone.
      const double mean = std::sqrt(squares_[k] / elements);
      if (task_.Shared("normalize") != 0 && mean > 0) scale /= mean;
      factors_[k] = static_cast<float>(scale);
    }
    return absl::OkStatus();
  }

  void Combine(const InputTile& tile, float* out) override {
    const float* base = tile.inputs[*task_.base];
    for (size_t i = 0; i < tile.count; ++i) {
      float sum = 0, divisor = 0;
      for (size_t k = 0; k < others_.size(); ++k) {
        const float weight =
            std::max(floor_, factors_[k] * tile.inputs[fishers_[k]][i]);
        sum += weight * (tile.inputs[others_[k]][i] - base[i]);
        divisor += weight;
      }
      out[i] = base[i] + lambda_ * (sum / divisor);
    }
  }

 private:
  const MethodTask task_;
  const std::vector<size_t> others_;
  const std::vector<size_t> fishers_;
  const float lambda_;
  const float floor_;
  std::vector<double> squares_;
  std::vector<float> factors_;
  size_t wrong_ = fishers_.size();  // the first whose values are wrong
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeFisher(MethodTask task) {
  std::vector<size_t> fishers;
  for (size_t other : task.Others()) {
    for (size_t i = 0; i < task.inputs.size(); ++i) {
      if (task.inputs[i].fisher_of == other) fishers.push_back(i);
    }
  }
  if (fishers.size() != task.Others().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter fisher: ", fishers.size(), " of ",
                     task.Others().size(), " models bring a Fisher diagonal"));
  }
  return std::make_unique<Fisher>(std::move(task), std::move(fishers));
}

}  // namespace

MethodSpec FisherMethod() {
  return {.name = "fisher",
          .source =
              "arXiv 2111.09832: base + lambda x sum of F_t tau_t / sum of "
              "F_t, F_t the diagonal of the Fisher information, at least "
              "`floor`; normalized, its root mean square in each tensor is 1",
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = {SharedNumber("lambda", 1.0, -kLargest, kLargest),
                         SharedBool("normalize", true),
                         SharedNumber("floor", 1e-6, 1e-30, 1),
                         OtherNumber("weight", 1.0, 0, kLargest),
                         {.name = "fisher",
                          .scope = MethodParameter::Scope::kOther,
                          .kind = MethodParameter::Kind::kFisherFile}},
          .make = MakeFisher};
}

}  // namespace cairn
