#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/strategy/linear_strategy.h"
#include "merge/strategy/merge_strategy.h"
#include "merge/strategy/ties_strategy.h"

namespace cairn {
namespace {

using Parameters = std::map<std::string, std::string>;

absl::Status CheckNames(absl::string_view strategy, const Parameters& given,
                        const std::vector<std::string>& known) {
  for (const auto& [name, value] : given) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "strategy ", strategy, " has no parameter \"", name, "\"; it has ",
          known.empty() ? "none" : absl::StrJoin(known, ", ")));
    }
  }
  return absl::OkStatus();
}

// The number under `name`, which is recorded; (above, most] is its range.
absl::StatusOr<double> Number(Parameters& parameters, const std::string& name,
                              absl::string_view fallback, double above,
                              double most) {
  auto [entry, is_default] =
      parameters.try_emplace(name, std::string(fallback));
  double value = 0;
  if (!absl::SimpleAtod(entry->second, &value) || !(value > above) ||
      !(value <= most)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parameter ", name, " is \"", entry->second,
        "\": it must be a number above ", above, " and at most ", most));
  }
  return value;
}

std::vector<double> Scaled(std::vector<double> weights, double factor) {
  for (double& weight : weights) weight *= factor;
  return weights;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MergeStrategy>> MakeMergeStrategy(
    absl::string_view name, const Parameters& given,
    std::vector<double> weights) {
  if (weights.empty()) {
    return absl::InvalidArgumentError("nothing to merge: there is no update");
  }
  Parameters parameters = given;
  if (name == "average") {
    CAIRN_RETURN_IF_ERROR(CheckNames(name, parameters, {}));
    const double share = 1.0 / static_cast<double>(weights.size());
    return std::make_unique<LinearStrategy>("average", std::move(parameters),
                                            Scaled(std::move(weights), share));
  }
  if (name == "task_arithmetic") {
    CAIRN_RETURN_IF_ERROR(CheckNames(name, parameters, {"lambda"}));
    CAIRN_ASSIGN_OR_RETURN(double lambda,
                           Number(parameters, "lambda", "1", -1e3, 1e3));
    return std::make_unique<LinearStrategy>("task_arithmetic",
                                            std::move(parameters),
                                            Scaled(std::move(weights), lambda));
  }
  if (name == "ties") {
    CAIRN_RETURN_IF_ERROR(CheckNames(name, parameters, {"density", "lambda"}));
    TiesStrategy::Options options;
    CAIRN_ASSIGN_OR_RETURN(options.lambda,
                           Number(parameters, "lambda", "1", -1e3, 1e3));
    CAIRN_ASSIGN_OR_RETURN(options.density,
                           Number(parameters, "density", "0.2", 0, 1));
    options.weights = std::move(weights);
    options.parameters = std::move(parameters);
    return std::make_unique<TiesStrategy>(std::move(options));
  }
  return ReasonedError(absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
                       absl::StrCat("there is no strategy \"", name,
                                    "\"; there are average, task_arithmetic "
                                    "and ties"));
}

}  // namespace cairn
