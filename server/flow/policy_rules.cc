#include "server/flow/policy_rules.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/update/strategies.h"

namespace cairn {
namespace {

using Choices = std::set<std::string>;

constexpr int kListMax = 100;
constexpr int kCountMax = 10'000;
constexpr int kGateAttempts = 2'000;
constexpr int kEarlyStopItems = 2'000;

const Choices& Strategies() {
  static const auto* const kSet = [] {
    auto* names = new Choices;
    for (const StrategySpec& spec : AllStrategies()) names->insert(spec.name);
    return names;
  }();
  return *kSet;
}

const Choices& ReviewTriggers() {
  static const auto* const kSet =
      new Choices{"no_claim", "inconclusive", "embeddings_or_head",
                  "modules_to_save", "none"};
  return *kSet;
}

const Choices& Screens() {
  static const auto* const kSet = new Choices{
      "canary", "collusion", "energy",   "kinship",   "none",
      "signs",  "sparsity",  "spectrum", "vocabulary"};
  return *kSet;
}

absl::Status Wrong(absl::string_view key, absl::string_view value,
                   absl::string_view wanted) {
  return absl::InvalidArgumentError(
      absl::StrCat("policy: ", key, " is ", value, " and must be ", wanted));
}

absl::Status Between(absl::string_view key, double value, double low,
                     double high) {
  if (std::isfinite(value) && value > low && value <= high) {
    return absl::OkStatus();
  }
  return Wrong(key, absl::StrCat(value),
               absl::StrCat("above ", low, " and at most ", high));
}

absl::Status Count(absl::string_view key, int64_t value, int64_t high) {
  if (value >= 0 && value <= high) return absl::OkStatus();
  return Wrong(key, absl::StrCat(value), absl::StrCat("from 0 to ", high));
}

absl::Status OneOf(absl::string_view key, const std::string& value,
                   const Choices& choices) {
  if (choices.contains(value)) return absl::OkStatus();
  return Wrong(key, absl::StrCat("'", value, "'"),
               absl::StrCat("one of ", absl::StrJoin(choices, ", ")));
}

template <typename T>
T OrDefault(T value, T fallback) {
  return value == T() ? fallback : value;
}

void FillDefaults(v1::Policy& p) {
  p.set_alpha(OrDefault(p.alpha(), 0.05));
  auto& margin = *p.mutable_margin();
  margin.set_perplexity(OrDefault(margin.perplexity(), 0.01));
  margin.set_accuracy(OrDefault(margin.accuracy(), 0.01));
  p.set_unprotected_margin(OrDefault(p.unprotected_margin(), 0.10));
  p.set_norm_ratio_max(OrDefault(p.norm_ratio_max(), 3.0));
  p.set_eval_dtype(OrDefault<std::string>(p.eval_dtype(), "float32"));
  p.set_master_dtype(OrDefault<std::string>(p.master_dtype(), "same"));
  if (!p.has_batch()) p.mutable_batch()->set_count(8);
  p.set_strategy(OrDefault<std::string>(p.strategy(), "task_arithmetic"));
  if (p.lambda_grid().empty()) {
    for (double lambda : {0.1, 0.2, 0.4, 0.7, 1.0}) p.add_lambda_grid(lambda);
  }
  if (p.review_if().empty()) {
    for (const char* trigger : {"no_claim", "inconclusive",
                                "embeddings_or_head", "modules_to_save"}) {
      p.add_review_if(trigger);
    }
  }
  p.set_attempts_per_day(OrDefault(p.attempts_per_day(), 20));
  p.set_organisation_attempts_per_day(
      OrDefault(p.organisation_attempts_per_day(), 60));
  p.set_gate_attempts(OrDefault(p.gate_attempts(), kGateAttempts));
  if (p.screens_block().empty()) {
    for (const char* screen : {"canary", "kinship"})
      p.add_screens_block(screen);
  }
  if (p.screens_review().empty()) {
    for (const char* screen :
         {"collusion", "energy", "spectrum", "signs", "vocabulary"}) {
      p.add_screens_review(screen);
    }
  }
  if (p.licenses().empty()) {
    for (const char* license :
         {"Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0"}) {
      p.add_licenses(license);
    }
  }
  p.set_attribution(OrDefault<std::string>(p.attribution(), "full"));
  p.set_early_stop_items(OrDefault(p.early_stop_items(), kEarlyStopItems));
  p.set_default_license(OrDefault<std::string>(p.default_license(), "none"));
  p.set_confirmations(OrDefault(p.confirmations(), 1));
}

// "none" is an empty list, so nothing stands beside it.
template <typename List>
absl::Status NoneAlone(absl::string_view key, const List& list) {
  if (list.size() < 2 ||
      std::find(list.begin(), list.end(), "none") == list.end()) {
    return absl::OkStatus();
  }
  return Wrong(key, "'none' beside others", "'none' alone");
}

absl::Status CheckLists(const v1::Policy& p) {
  if (p.lambda_grid_size() > kListMax || p.licenses_size() > kListMax ||
      p.review_if_size() > kListMax || p.screens_block_size() > kListMax ||
      p.screens_review_size() > kListMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("policy: a list has more than ", kListMax, " entries"));
  }
  for (double lambda : p.lambda_grid()) {
    CAIRN_RETURN_IF_ERROR(Between("lambda_grid", lambda, 0, 10));
  }
  for (const std::string& trigger : p.review_if()) {
    CAIRN_RETURN_IF_ERROR(OneOf("review_if", trigger, ReviewTriggers()));
  }
  CAIRN_RETURN_IF_ERROR(NoneAlone("review_if", p.review_if()));
  for (const std::string& screen : p.screens_block()) {
    CAIRN_RETURN_IF_ERROR(OneOf("screens_block", screen, Screens()));
  }
  for (const std::string& screen : p.screens_review()) {
    CAIRN_RETURN_IF_ERROR(OneOf("screens_review", screen, Screens()));
  }
  CAIRN_RETURN_IF_ERROR(NoneAlone("screens_block", p.screens_block()));
  CAIRN_RETURN_IF_ERROR(NoneAlone("screens_review", p.screens_review()));
  for (const std::string& license : p.licenses()) {
    CAIRN_RETURN_IF_ERROR(CheckLicense(license));
    if (license.empty()) return Wrong("licenses", "''", "an SPDX identifier");
  }
  return absl::OkStatus();
}

absl::Status CheckPolicy(const v1::Policy& p) {
  CAIRN_RETURN_IF_ERROR(Between("alpha", p.alpha(), 0, 0.5));
  CAIRN_RETURN_IF_ERROR(
      Between("margin.perplexity", p.margin().perplexity(), 0, 10));
  CAIRN_RETURN_IF_ERROR(
      Between("margin.accuracy", p.margin().accuracy(), 0, 1));
  CAIRN_RETURN_IF_ERROR(
      Between("unprotected_margin", p.unprotected_margin(), 0, 10));
  CAIRN_RETURN_IF_ERROR(Between("norm_ratio_max", p.norm_ratio_max(), 0, 1e6));
  CAIRN_RETURN_IF_ERROR(
      OneOf("eval_dtype", p.eval_dtype(), {"float32", "bfloat16"}));
  CAIRN_RETURN_IF_ERROR(OneOf("master_dtype", p.master_dtype(), {"same"}));
  CAIRN_RETURN_IF_ERROR(Count("batch.count", p.batch().count(), kCountMax));
  CAIRN_RETURN_IF_ERROR(
      Count("batch.age", p.batch().age_seconds(), int64_t{366} * 86'400));
  CAIRN_RETURN_IF_ERROR(OneOf("strategy", p.strategy(), Strategies()));
  CAIRN_RETURN_IF_ERROR(CheckLists(p));
  CAIRN_RETURN_IF_ERROR(Count("approvals", p.approvals(), 100));
  CAIRN_RETURN_IF_ERROR(
      Count("attempts_per_day", p.attempts_per_day(), 1'000'000));
  CAIRN_RETURN_IF_ERROR(Count("organisation_attempts_per_day",
                              p.organisation_attempts_per_day(), 1'000'000));
  CAIRN_RETURN_IF_ERROR(Count("gate_attempts", p.gate_attempts(), 1'000'000));
  CAIRN_RETURN_IF_ERROR(
      OneOf("attribution", p.attribution(), {"full", "placebo", "off"}));
  CAIRN_RETURN_IF_ERROR(
      Count("early_stop_items", p.early_stop_items(), 1'000'000'000));
  if (p.default_license() != "none" &&
      std::find(p.licenses().begin(), p.licenses().end(),
                p.default_license()) == p.licenses().end()) {
    return Wrong("default_license", absl::StrCat("'", p.default_license(), "'"),
                 "'none' or one of licenses");
  }
  if (p.torchscript() && p.eval_dtype() != "float32") {
    return Wrong("torchscript", "true",
                 "false unless eval_dtype is float32, in which it runs");
  }
  if (p.confirmations() < 1 || p.confirmations() > 2) {
    return Wrong("confirmations", absl::StrCat(p.confirmations()), "1 or 2");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::Policy> CompletePolicy(v1::Policy policy) {
  FillDefaults(policy);
  CAIRN_RETURN_IF_ERROR(CheckPolicy(policy));
  return policy;
}

double PolicyMargin(const v1::Policy& policy, absl::string_view metric,
                    bool is_protected) {
  if (!is_protected) return policy.unprotected_margin();
  // r2, too, is a mean of points.
  bool is_accuracy = metric == "exact_match" || metric == "r2" ||
                     metric.substr(0, 3) == absl::string_view("acc");
  return is_accuracy ? policy.margin().accuracy()
                     : policy.margin().perplexity();
}

int64_t GateAttempts(const v1::Policy& policy) {
  return OrDefault(policy.gate_attempts(), kGateAttempts);
}

int64_t EarlyStopItems(const v1::Policy& policy) {
  return OrDefault(policy.early_stop_items(), kEarlyStopItems);
}

absl::Status CheckLicense(absl::string_view license) {
  bool is_spdx = license.size() <= 64 &&
                 std::all_of(license.begin(), license.end(), [](char c) {
                   return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                          c == '-' || c == '.' || c == '+';
                 });
  if (is_spdx) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("license '", license.substr(0, 64),
                   "' is not an SPDX identifier, e.g. Apache-2.0"));
}

}  // namespace cairn
