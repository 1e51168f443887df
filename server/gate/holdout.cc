#include "server/gate/holdout.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/flow/policy_rules.h"
#include "server/flow/resource_names.h"
#include "server/gate/paired_difference.h"

namespace cairn {
namespace {

using store::v1::HoldoutRecord;
using store::v1::SuiteRecord;
using store::v1::UserRecord;

HoldoutRecord HoldoutKey(const v1::Suite& suite,
                         absl::string_view organisation) {
  HoldoutRecord record;
  record.set_suite(suite.name());
  record.set_epoch(EpochOf(suite));
  record.set_organisation(std::string(organisation));
  return record;
}

// Below it a level is none: no test of a few thousand items resolves it.
constexpr double kLevelMin = 1e-30;

// Nats of a count of which nothing is known: of 0, 1, 2, ... with the weights
// 1/2, 1/6, 1/12, ..., which sum to 1.
double NatsOfCount(double count) { return std::log((count + 1) * (count + 2)); }

// ln of weight * (weight + 1) * ... with `count` factors.
double LogRising(double weight, int64_t count) {
  return std::lgamma(weight + static_cast<double>(count)) - std::lgamma(weight);
}

// Nats of a sequence of answers that are nearly always the same one: either
// nothing else is ever said, or they come as from an urn in which the usual one
// begins with the weight 1 and the other with 1/2; half the belief each.
double NatsOfFlags(int64_t usual, int64_t other) {
  const double urn = LogRising(1, usual) + LogRising(0.5, other) -
                     LogRising(1.5, usual + other);
  return other == 0 ? -std::log(0.5 + 0.5 * std::exp(urn))
                    : std::log(2.0) - urn;
}

// Of a merge that failed: the suite got worse by its margin, is too small to
// tell, or neither; it is or is not below the parent; the merge gained nothing
// or did.
constexpr double kMergeAnswers = 3 * 2 * 2;

// The n-th part of 1, n from 1: n^-1.5 over the sum of them all, zeta(1.5). The
// first of many pay little for those that may follow, and the last of
// thousands is still worth a third more standard errors than an even part.
double Part(int64_t n) {
  constexpr double kZeta = 2.6123753486854883;
  return std::pow(static_cast<double>(n), -1.5) / kZeta;
}

int64_t ClaimsOf(const HoldoutRecord& record) {
  return record.has_claims() ? record.claims() : record.attempts();
}

bool HasReason(const GateDecision& decision, const std::string& suite,
               v1::Reason::Code code) {
  return std::any_of(decision.reasons.begin(), decision.reasons.end(),
                     [&](const v1::Reason& reason) {
                       return reason.code() == code && reason.suite() == suite;
                     });
}

}  // namespace

absl::StatusOr<std::string> OrganisationOf(const HubReader& reader,
                                           absl::string_view user) {
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Find<UserRecord>(user));
  if (!record.has_value() || record->user().organisation().empty()) {
    return std::string(user);
  }
  return absl::StrCat("organisations/", record->user().organisation());
}

int32_t EpochOf(const v1::Suite& suite) { return std::max(suite.epoch(), 1); }

absl::StatusOr<HoldoutRecord> FindHoldout(const HubReader& reader,
                                          const v1::Suite& suite,
                                          absl::string_view organisation) {
  HoldoutRecord key = HoldoutKey(suite, organisation);
  CAIRN_ASSIGN_OR_RETURN(
      auto found, reader.Find<HoldoutRecord>(Table<HoldoutRecord>::Name(key)));
  return found.has_value() ? *std::move(found) : std::move(key);
}

double ToldNats(const HoldoutRecord& told) {
  const int64_t some = told.inconclusive() + told.regressed() + told.shown();
  // Either nothing is ever said, or answers come as from an urn in which
  // nothing, shown, inconclusive and regressed begin with the weights 1, 1/2,
  // 1/4 and 1/4, and each answer adds one of its kind: half the belief each.
  const double urn =
      LogRising(1, told.attempts() - some) + LogRising(0.5, told.shown()) +
      LogRising(0.25, told.inconclusive()) + LogRising(0.25, told.regressed()) -
      LogRising(2, told.attempts());
  const double nats =
      some == 0 ? -std::log(0.5 + 0.5 * std::exp(urn)) : std::log(2.0) - urn;
  return nats + told.gain_nats() +
         NatsOfFlags(told.merges_passed(), told.merges_failed()) +
         static_cast<double>(told.merges_failed()) * std::log(kMergeAnswers) +
         NatsOfFlags(told.on_time(), told.late()) + told.late_nats();
}

ClaimOrder NextClaim(const HoldoutRecord& sum, const HoldoutRecord& told) {
  // Records from before organisations were counted: each claim by another.
  const int64_t known = sum.claimants() > 0 ? sum.claimants() : ClaimsOf(sum);
  return {.of_all = ClaimsOf(sum) + 1,
          .of_own = ClaimsOf(told) + 1,
          .organisation = told.claimant() > 0 ? told.claimant() : known + 1};
}

double ClaimLevel(double alpha, const ClaimOrder& order,
                  const HoldoutRecord& told) {
  const double share =
      0.5 * (Part(order.of_all) + Part(order.organisation) * Part(order.of_own));
  const double level = alpha * share * std::exp(-ToldNats(told));
  return level < kLevelMin ? 0 : level;
}

absl::Status SetClaimLevels(const HubReader& reader, const v1::Policy& policy,
                            absl::string_view organisation,
                            const std::vector<SuiteRecord>& records,
                            std::vector<GateSuite>& suites) {
  for (size_t i = 0; i < suites.size(); ++i) {
    const v1::Suite& suite = records[i].suite();
    CAIRN_ASSIGN_OR_RETURN(auto sum, FindHoldout(reader, suite, ""));
    CAIRN_ASSIGN_OR_RETURN(auto told, FindHoldout(reader, suite, organisation));
    suites[i].claim_level =
        sum.attempts() < GateAttempts(policy)
            ? ClaimLevel(policy.alpha(), NextClaim(sum, told), told)
            : 0;
  }
  return absl::OkStatus();
}

void CountAttempt(const GateSuite& suite, HoldoutRecord& sum,
                  HoldoutRecord& told) {
  const ClaimOrder order = NextClaim(sum, told);
  sum.set_claims(ClaimsOf(sum) + (suite.is_claimed ? 1 : 0));
  told.set_claims(ClaimsOf(told) + (suite.is_claimed ? 1 : 0));
  if (suite.is_claimed) {
    sum.set_claimants(std::max(sum.claimants(), order.organisation));
    told.set_claimant(order.organisation);
  }
  sum.set_attempts(sum.attempts() + 1);
  told.set_attempts(told.attempts() + 1);
  sum.set_error_squares(sum.error_squares() +
                        std::pow(suite.difference.standard_error(), 2));
  sum.set_clusters(suite.difference.degrees_of_freedom() + 1);
}

void Tell(const GateSuite& suite, const GateDecision& decision,
          HoldoutRecord& told, v1::Report& report) {
  if (HasReason(decision, suite.name, v1::Reason::SUITE_REGRESSED) ||
      HasReason(decision, suite.name, v1::Reason::SCREEN_ANOMALY)) {
    told.set_regressed(told.regressed() + 1);
    return;
  }
  if (HasReason(decision, suite.name, v1::Reason::INCONCLUSIVE)) {
    told.set_inconclusive(told.inconclusive() + 1);
    return;
  }
  if (!suite.is_claimed ||
      HasReason(decision, suite.name, v1::Reason::CLAIM_NOT_SHOWN)) {
    return;
  }
  told.set_shown(told.shown() + 1);
  const double step = report.rounding_step();
  const double gain =
      step > 0 ? std::floor(report.gain() / step) * step : told.best_told();
  const double rungs = std::floor((gain - told.best_told()) / step + 1e-9);
  if (decision.decision == v1::Verdict::FAIL || step <= 0 || rungs < 1) {
    told.set_gain_nats(told.gain_nats() + NatsOfCount(0));
    return;
  }
  told.set_best_told(gain);
  report.set_told_gain(gain);
  const double doublings = std::round(std::log2(4 * step / suite.margin));
  told.set_gain_nats(told.gain_nats() + NatsOfCount(rungs) +
                     NatsOfCount(std::max(doublings, 0.0)));
}

absl::Status ChargeHoldout(HubTransaction& transaction,
                           absl::string_view organisation,
                           const std::vector<SuiteRecord>& records,
                           const std::vector<GateSuite>& suites,
                           const GateDecision& decision,
                           std::vector<v1::Report>& reports) {
  for (size_t i = 0; i < suites.size(); ++i) {
    const v1::Suite& suite = records[i].suite();
    CAIRN_ASSIGN_OR_RETURN(auto told,
                           FindHoldout(transaction, suite, organisation));
    CAIRN_ASSIGN_OR_RETURN(auto sum, FindHoldout(transaction, suite, ""));
    CountAttempt(suites[i], sum, told);
    Tell(suites[i], decision, told, reports[i]);
    CAIRN_RETURN_IF_ERROR(transaction.Put(told));
    CAIRN_RETURN_IF_ERROR(transaction.Put(sum));
  }
  return absl::OkStatus();
}

absl::Status ChargeMerge(HubTransaction& transaction,
                         const std::set<std::string>& organisations,
                         const std::vector<SuiteRecord>& suites,
                         v1::Verdict::Decision decision) {
  for (const std::string& organisation : organisations) {
    for (const SuiteRecord& record : suites) {
      CAIRN_ASSIGN_OR_RETURN(
          auto told, FindHoldout(transaction, record.suite(), organisation));
      if (decision == v1::Verdict::PASS) {
        told.set_merges_passed(told.merges_passed() + 1);
      } else {
        told.set_merges_failed(told.merges_failed() + 1);
      }
      CAIRN_RETURN_IF_ERROR(transaction.Put(told));
    }
  }
  return absl::OkStatus();
}

absl::Status ChargeTime(HubTransaction& transaction,
                        absl::string_view organisation,
                        const std::vector<SuiteRecord>& suites,
                        int64_t holds_missed) {
  for (const SuiteRecord& record : suites) {
    CAIRN_ASSIGN_OR_RETURN(
        auto told, FindHoldout(transaction, record.suite(), organisation));
    if (holds_missed == 0) {
      told.set_on_time(told.on_time() + 1);
    } else {
      told.set_late(told.late() + 1);
      told.set_late_nats(told.late_nats() +
                         NatsOfCount(static_cast<double>(holds_missed - 1)));
    }
    CAIRN_RETURN_IF_ERROR(transaction.Put(told));
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Suite> ViewSuite(const HubReader& reader, v1::Suite suite,
                                    const v1::Policy& policy) {
  CAIRN_ASSIGN_OR_RETURN(auto sum, FindHoldout(reader, suite, ""));
  const int64_t most = GateAttempts(policy);
  suite.set_epoch(EpochOf(suite));
  suite.set_attempts_used(sum.attempts());
  suite.set_attempts_left(std::max<int64_t>(most - sum.attempts(), 0));
  if (sum.attempts() > 0 && suite.items() > 1 && suite.attempts_left() > 0) {
    const double level = ClaimLevel(policy.alpha(), NextClaim(sum, {}), {});
    suite.set_minimum_detectable_effect(DetectableEffect(
        std::sqrt(sum.error_squares() / static_cast<double>(sum.attempts())),
        sum.clusters() > 0 ? sum.clusters()
                           : static_cast<double>(suite.items()),
        level));
  }
  return suite;
}

absl::Status CheckHoldoutLeft(const HubReader& reader, absl::string_view model,
                              const v1::Policy& policy) {
  CAIRN_ASSIGN_OR_RETURN(auto suites, reader.ActiveSuites(model));
  for (const SuiteRecord& record : suites) {
    const v1::Suite& suite = record.suite();
    CAIRN_ASSIGN_OR_RETURN(auto sum, FindHoldout(reader, suite, ""));
    if (sum.attempts() < GateAttempts(policy)) continue;
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "HOLDOUT_EXHAUSTED",
        absl::StrCat("the gate split of suite ", ShortName(suite.name()),
                     " has judged the ", GateAttempts(policy),
                     " contributions of its epoch ", EpochOf(suite),
                     "; a maintainer begins the next one with 'cairn suite "
                     "add' and new gate items"),
        {{"suite", suite.name()}});
  }
  return absl::OkStatus();
}

}  // namespace cairn
