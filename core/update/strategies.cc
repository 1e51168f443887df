#include "core/update/strategies.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using Kind = StrategyParameter::Kind;
using Parameters = std::vector<StrategyParameter>;

StrategyParameter Number(std::string name, std::string fallback, double least,
                         double most) {
  return {.name = std::move(name),
          .fallback = std::move(fallback),
          .least = least,
          .most = most};
}

StrategyParameter Lambda(std::string fallback) {
  StrategyParameter lambda = Number("lambda", std::move(fallback), -1e3, 1e3);
  lambda.is_above = true;
  return lambda;
}

StrategyParameter Density(std::string fallback) {
  StrategyParameter density = Number("density", std::move(fallback), 0, 1);
  density.is_above = true;
  return density;
}

StrategyParameter Flag(std::string name, std::string fallback) {
  return {.name = std::move(name),
          .fallback = std::move(fallback),
          .least = 0,
          .most = 1,
          .kind = Kind::kBool};
}

StrategyParameter Count(std::string name, std::optional<std::string> fallback,
                        double least, double most) {
  return {.name = std::move(name),
          .fallback = std::move(fallback),
          .least = least,
          .most = most,
          .kind = Kind::kInteger};
}

// Lambda, then `more`.
Parameters With(std::string lambda, Parameters more = {}) {
  Parameters parameters = {Lambda(std::move(lambda))};
  parameters.insert(parameters.end(), more.begin(), more.end());
  return parameters;
}

std::vector<StrategySpec> Sparse() {
  const auto with = [](std::string density, std::string normalize,
                       std::string rescale, Parameters more) {
    Parameters parameters =
        With("1", {Density(std::move(density)),
                   Flag("normalize", std::move(normalize)),
                   Flag("rescale", std::move(rescale))});
    parameters.insert(parameters.end(), more.begin(), more.end());
    return parameters;
  };
  const StrategyParameter gamma = Number("gamma", "0.01", 0, 1);
  const StrategyParameter epsilon = Number("epsilon", "0.15", 0, 1);
  return {
      {"breadcrumbs", "without the largest and the smallest of each tensor",
       with("0.9", "0", "0", {gamma})},
      {"breadcrumbs_ties", "breadcrumbs, then TIES' signs",
       with("0.9", "0", "0", {gamma})},
      {"dare_linear", "random elements, made up for", with("0.5", "0", "1", {})},
      {"dare_ties", "random elements, then TIES' signs",
       with("0.5", "0", "1", {})},
      {"della", "random elements, large ones more often, then TIES' signs",
       with("0.5", "1", "1", {epsilon})},
      {"della_linear", "random elements, large ones more often",
       with("0.5", "0", "1", {epsilon})},
  };
}

std::vector<StrategySpec> Spectral() {
  const StrategyParameter tolerance = Number("tolerance", "1e-05", 0, 1);
  return {
      {"iso_c", "singular values of the sum made equal",
       With("1", {tolerance})},
      {"iso_cts", "likewise, with directions of each update",
       With("1", {tolerance, Number("common", "0.8", 0, 1)})},
      {"knots_ties", "TIES in the basis of all updates",
       With("0.6", {tolerance, Density("0.2")})},
      {"opcm", "one after the other, without what is there already",
       With("1", {tolerance, Number("alpha", "0.5", 0, 1)})},
      {"svc", "the sum, its singular values calibrated",
       With("1", {tolerance, Number("alpha", "0.5", 1e-6, 1e3)})},
      {"tsv_m", "first singular vectors of each, made orthogonal",
       With("1", {tolerance})},
  };
}

std::vector<StrategySpec> Robust() {
  const StrategyParameter faulty = Count("faulty", std::nullopt, 0, 1 << 20);
  return {
      {"geometric_median", "least sum of distances, tensor by tensor",
       With("1", {Count("max_iter", "100", 0, 10000),
                  Number("tol", "1e-06", 1e-12, 1)})},
      {"krum", "the one nearest to most others", With("1", {faulty})},
      {"median", "median of each element", With("1")},
      {"multi_krum", "mean of those nearest to most others",
       With("1", {faulty, Count("select", std::nullopt, 1, 1 << 20)})},
      {"trimmed_mean", "mean of each element without either end",
       With("1", {Number("trim", "0.1", 0, 0.49)})},
  };
}

std::vector<StrategySpec> Others() {
  return {
      {"average", "sum over the number of updates", {}},
      {"consensus_ta", "sum, where enough updates agree",
       With("0.3", {Number("mask_lambda", "0.4", 0, 1e3),
                    Count("agree", "2", 0, 1 << 20)})},
      {"fisher", "weighed by each author's Fisher diagonal",
       With("1", {Flag("normalize", "1"),
                  Number("floor", "1e-06", 1e-30, 1)})},
      {"regmean", "fitted to each author's inputs, by their Gram matrices",
       With("1", {Number("alpha", "0.9", 0, 1), Number("ridge", "1e-09", 0, 1)})},
      {"emr", "largest magnitude of the elected sign", With("1")},
      {"magmax", "largest magnitude of each element", With("0.5")},
      {"model_stock", "mean, shortened by how little the updates agree",
       With("1", {Flag("filter_wise", "0")})},
      {"pcb", "weighed by how elements compete",
       With("1.2", {Density("0.1")})},
      {"ram", "sum where one changes, mean where several do",
       With("1", {Number("epsilon", "1e-05", 0, 1)})},
      {"sce", "where they vary most, weighed by energy",
       With("1", {Number("select_topk", "1", 0, 1)})},
      {"task_arithmetic", "sum", With("1")},
      {"ties", "largest of each over the model, elected signs, mean",
       With("1", {Density("0.2")})},
  };
}

std::vector<StrategySpec> MakeList() {
  std::vector<StrategySpec> list = Others();
  for (auto* more : {&Sparse, &Spectral, &Robust}) {
    for (StrategySpec& spec : more()) list.push_back(std::move(spec));
  }
  std::sort(list.begin(), list.end(),
            [](const StrategySpec& a, const StrategySpec& b) {
              return a.name < b.name;
            });
  return list;
}

// What all strategies have.
const Parameters& CareParameters() {
  static const auto& list = *new Parameters{
      {.name = "clip_norm", .fallback = {}, .least = 0, .most = 1e30,
       .is_above = true},
      {.name = "duplicates", .fallback = {}},
      {.name = "duplicate_cosine", .fallback = {}, .least = 0, .most = 1,
       .is_above = true}};
  return list;
}

absl::Status Unfit(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, "UNSUPPORTED", what);
}

absl::Status CheckValue(const StrategyParameter& parameter,
                        const std::string& text) {
  if (parameter.name == "clip_norm" && text == "median") {
    return absl::OkStatus();
  }
  if (parameter.name == "duplicates") {
    if (text == "allow" || text == "refuse") return absl::OkStatus();
    return Unfit(absl::StrCat("parameter duplicates is \"", text,
                              "\": it must be allow or refuse"));
  }
  double value = 0;
  const bool is_number =
      absl::SimpleAtod(text, &value) && std::isfinite(value) &&
      (parameter.kind == Kind::kNumber || value == std::floor(value));
  if (is_number && value <= parameter.most &&
      (parameter.is_above ? value > parameter.least
                          : value >= parameter.least)) {
    return absl::OkStatus();
  }
  return Unfit(absl::StrCat(
      "parameter ", parameter.name, " is \"", text, "\": it must be ",
      parameter.name == "clip_norm"      ? "median or a number "
      : parameter.kind == Kind::kInteger ? "an integer "
      : parameter.kind == Kind::kBool    ? "an integer "
                                         : "a number ",
      parameter.is_above ? "above " : "from ", parameter.least,
      parameter.is_above ? " and at most " : " to ", parameter.most));
}

absl::Status CheckAll(absl::string_view whose, const Parameters& known,
                      const StrategyParameters& given) {
  for (const auto& [name, text] : given) {
    // A copy of the binding, which clang 14 does not let lambdas see.
    const auto found =
        std::find_if(known.begin(), known.end(),
                     [&name = name](const auto& p) { return p.name == name; });
    if (found != known.end()) {
      CAIRN_RETURN_IF_ERROR(CheckValue(*found, text));
      continue;
    }
    return Unfit(absl::StrCat(
        whose, " has no parameter \"", name, "\"; it has ",
        absl::StrJoin(known, ", ",
                      [](std::string* out, const StrategyParameter& p) {
                        out->append(p.name);
                      })));
  }
  return absl::OkStatus();
}

}  // namespace

const StrategyParameter* StrategySpec::Find(absl::string_view parameter) const {
  for (const StrategyParameter& p : parameters) {
    if (p.name == parameter) return &p;
  }
  return nullptr;
}

absl::Span<const StrategySpec> AllStrategies() {
  static const auto& list = *new std::vector<StrategySpec>(MakeList());
  return list;
}

const StrategySpec* FindStrategy(absl::string_view name) {
  for (const StrategySpec& spec : AllStrategies()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

int UpdatesMin(absl::string_view strategy,
               const StrategyParameters& parameters) {
  // The mean is shortened by what two or more agree on.
  int least = strategy == "model_stock" ? 2 : 1;
  for (const auto& [name, text] : parameters) {
    int value = 0;
    if (!absl::SimpleAtoi(text, &value)) continue;
    // Krum's condition for so many faulty ones.
    if (name == "faulty") least = std::max(least, 2 * value + 3);
    if (name == "select") least = std::max(least, value);
  }
  return least;
}

std::string StrategyNames() {
  return absl::StrJoin(AllStrategies(), ", ",
                       [](std::string* out, const StrategySpec& spec) {
                         out->append(spec.name);
                       });
}

absl::StatusOr<StrategyParameters> CompleteStrategy(
    absl::string_view strategy, const StrategyParameters& given) {
  const StrategySpec* spec = FindStrategy(strategy);
  if (spec == nullptr) {
    return Unfit(absl::StrCat("there is no strategy \"", strategy,
                              "\"; there are ", StrategyNames()));
  }
  Parameters known = spec->parameters;
  known.insert(known.end(), CareParameters().begin(), CareParameters().end());
  CAIRN_RETURN_IF_ERROR(
      CheckAll(absl::StrCat("strategy ", strategy), known, given));
  StrategyParameters complete = given;
  for (const StrategyParameter& parameter : spec->parameters) {
    if (parameter.fallback) {
      complete.try_emplace(parameter.name, *parameter.fallback);
    }
  }
  return complete;
}

absl::Status CheckCare(const StrategyParameters& given) {
  return CheckAll("care for updates", CareParameters(), given);
}

UpdateCare CareOf(const StrategyParameters& parameters) {
  UpdateCare care;
  for (const auto& [name, text] : parameters) {
    double value = 0;
    if (name == "clip_norm") {
      care.clip_norm = absl::SimpleAtod(text, &value) ? value : 0.0;
    } else if (name == "duplicates") {
      care.refuses_duplicates = text == "refuse";
    } else if (name == "duplicate_cosine" && absl::SimpleAtod(text, &value)) {
      care.duplicate_cosine = value;
    }
  }
  return care;
}

}  // namespace cairn
