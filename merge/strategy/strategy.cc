#include "merge/strategy/strategy.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr char kLambda[] = "lambda";

}  // namespace

absl::StatusOr<Strategy> Strategy::Make(absl::string_view name,
                                        const StrategyParameters& given,
                                        std::vector<double> weights) {
  if (weights.empty()) {
    return absl::InvalidArgumentError("nothing to merge: there is no update");
  }
  Strategy strategy;
  CAIRN_ASSIGN_OR_RETURN(strategy.parameters_, CompleteStrategy(name, given));
  strategy.name_ = std::string(name);
  strategy.care_ = CareOf(strategy.parameters_);
  strategy.weights_ = std::move(weights);
  for (const StrategyParameter& p : FindStrategy(name)->parameters) {
    const auto text = strategy.parameters_.find(p.name);
    if (text == strategy.parameters_.end()) continue;
    CAIRN_CHECK(
        absl::SimpleAtod(text->second, &strategy.numbers_[p.name]));
  }
  const bool is_average = name == "average";
  strategy.method_ = FindMethod(is_average ? "task_arithmetic" : name);
  CAIRN_CHECK(strategy.method_ != nullptr);
  const int updates_min = UpdatesMin(name, strategy.parameters_);
  if (static_cast<int>(strategy.weights_.size()) < updates_min) {
    return absl::InvalidArgumentError(
        absl::StrCat("strategy ", name, " takes at least ", updates_min,
                     " updates, and there are ", strategy.weights_.size()));
  }
  const auto lambda = strategy.numbers_.find(kLambda);
  if (is_average) {
    strategy.weight_factor_ =
        1.0 / static_cast<double>(strategy.weights_.size());
  } else if (name == "task_arithmetic") {
    strategy.weight_factor_ = lambda->second;
    strategy.numbers_.erase(lambda);
  } else if (strategy.method_->Find(kLambda) == nullptr) {
    strategy.scale_ = static_cast<float>(lambda->second);
  }
  // An author measures what the update changes, and nothing else.
  const bool has_statistics = std::any_of(
      strategy.method_->parameters.begin(), strategy.method_->parameters.end(),
      [](const MethodParameter& p) { return p.is_file(); });
  strategy.needs_untouched_ =
      !(is_average || name == "task_arithmetic" || name == "ties" ||
        has_statistics);
  return strategy;
}

std::vector<double> Strategy::Coefficients() const {
  const auto lambda = numbers_.find(kLambda);
  std::vector<double> coefficients = weights_;
  for (double& coefficient : coefficients) {
    coefficient *= weight_factor_;
    if (lambda != numbers_.end()) coefficient *= lambda->second;
  }
  return coefficients;
}

double Strategy::whole_density() const {
  return name_ == "ties" ? numbers_.at("density") : 0.0;
}

MethodTask Strategy::TaskFor(const std::vector<int64_t>& shape,
                             const std::vector<size_t>& participants) const {
  MethodTask task;
  task.shape = shape;
  task.base = 0;
  task.inputs.resize(1 + participants.size());
  if (name_ == "ties") task.profile = Profile::kPaper;
  for (const MethodParameter& p : method_->parameters) {
    if (p.is_file()) continue;
    const auto given = numbers_.find(p.name);
    if (given == numbers_.end() && !p.fallback && p.name != "weight") continue;
    const double value =
        given != numbers_.end() ? given->second : p.fallback.value_or(1.0);
    if (p.scope == MethodParameter::Scope::kShared) {
      task.parameters[p.name] = value;
      continue;
    }
    for (size_t k = 0; k < participants.size(); ++k) {
      task.inputs[k + 1].parameters[p.name] =
          p.name == "weight" ? weights_[participants[k]] * weight_factor_
                             : value;
    }
  }
  for (size_t k = 0; k < participants.size(); ++k) {
    task.inputs[k + 1].participant = participants[k];
  }
  return task;
}

}  // namespace cairn
