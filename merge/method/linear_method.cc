#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// The sum of weight x input, whose first term is not added to a zero.
ElementFormula PlainSum(std::vector<float> weights) {
  std::vector<size_t> members(weights.size());
  std::iota(members.begin(), members.end(), size_t{0});
  ElementFormula formula =
      ElementFormula::Of(ElementKind::kWeightedSum, std::nullopt, members,
                         std::move(weights));
  formula.rule.start = -0.0f;
  return formula;
}

class Linear : public TensorMethod {
 public:
  explicit Linear(std::vector<float> weights) : weights_(std::move(weights)) {}

  void Combine(const InputTile& tile, float* out) override {
    for (size_t begin = 0; begin < tile.count; begin += kSumBlock) {
      const size_t count = std::min(kSumBlock, tile.count - begin);
      Scale(weights_[0], tile.inputs[0] + begin, out + begin, count);
      for (size_t i = 1; i < weights_.size(); ++i) {
        AddScaledTo(weights_[i], tile.inputs[i] + begin, out + begin, count);
      }
    }
  }

  std::optional<ElementFormula> Formula() const override {
    return PlainSum(weights_);
  }

 private:
  const std::vector<float> weights_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeLinear(MethodTask task) {
  double sum = 0;
  for (const auto& input : task.inputs) sum += input.parameters.at("weight");
  const bool is_normalized = task.Shared("normalize") != 0;
  if (is_normalized && std::abs(sum) < 1e-12) {
    return absl::InvalidArgumentError(
        "parameter weight: the weights sum to 0, so they cannot be normalized; "
        "set normalize: false or change one");
  }
  std::vector<float> weights;
  for (const auto& input : task.inputs) {
    weights.push_back(static_cast<float>(input.parameters.at("weight") /
                                         (is_normalized ? sum : 1.0)));
  }
  return std::make_unique<Linear>(std::move(weights));
}

class Passthrough : public TensorMethod {
 public:
  explicit Passthrough(std::optional<float> scale) : scale_(scale) {}

  void Combine(const InputTile& tile, float* out) override {
    if (scale_) {
      Scale(*scale_, tile.inputs[0], out, tile.count);
    } else {
      std::copy_n(tile.inputs[0], tile.count, out);
    }
  }

  std::optional<ElementFormula> Formula() const override {
    if (!scale_) return std::nullopt;
    return PlainSum({*scale_});
  }

 private:
  const std::optional<float> scale_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakePassthrough(MethodTask task) {
  const auto& parameters = task.inputs[0].parameters;
  const auto scale = parameters.find("scale");
  if (scale == parameters.end()) {
    return std::make_unique<Passthrough>(std::nullopt);
  }
  return std::make_unique<Passthrough>(static_cast<float>(scale->second));
}

}  // namespace

MethodSpec LinearMethod() {
  return {.name = "linear",
          .source =
              "arXiv 2203.05482 (model soups): sum of weight x model, "
              "over the sum of the weights when normalized",
          .parameters = {SharedBool("normalize", true),
                         {.name = "weight",
                          .scope = MethodParameter::Scope::kInput,
                          .least = -kLargest,
                          .most = kLargest}},
          .make = MakeLinear};
}

MethodSpec PassthroughMethod() {
  return {.name = "passthrough",
          .source = "the one input as it is, times scale where given",
          .inputs_max = 1,
          .is_symmetric = false,
          .parameters = {{.name = "scale",
                          .scope = MethodParameter::Scope::kInput,
                          .least = -kLargest,
                          .most = kLargest,
                          .is_optional = true}},
          .make = MakePassthrough};
}

}  // namespace cairn
