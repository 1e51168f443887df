#include "server/gate/testing/campaign.h"

#include <algorithm>
#include <cmath>

#include "core/base/log.h"
#include "server/gate/holdout.h"

namespace cairn::testing {
namespace {

// How often an attack that collects answers cashes them in.
constexpr int kCollected = 100;

void AddTo(std::vector<double>& sum, const std::vector<double>& more,
           double factor) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * more[i];
}

std::vector<double> Scaled(std::vector<double> values, double factor) {
  for (double& value : values) value *= factor;
  return values;
}

// One author at one gate. Keeps score of what was accepted.
class Author {
 public:
  Author(Attack attack, const CampaignOptions& options)
      : attack_(attack),
        options_(options),
        gate_(options),
        random_(options.seed ^ 0x9e3779b97f4a7c15),
        sum_(static_cast<size_t>(options.items)) {}

  CampaignResult Run() {
    while (result_.attempts < options_.attempts) {
      switch (attack_) {
        case Attack::kRandom:
          Submit(gate_.Draw());
          break;
        case Attack::kBoosting:
          Collect(gate_.Draw(), 0, SimulatedGate::Claim::kGain);
          break;
        case Attack::kMarginProbing:
          // A coin toss between "worse than the margin" and nothing.
          Collect(gate_.Draw(), -(options_.margin + 1.7 * gate_.error()),
                  SimulatedGate::Claim::kNone);
          break;
        case Attack::kClaimProbing:
          Collect(gate_.Draw(), true_gain_, SimulatedGate::Claim::kGain);
          break;
        case Attack::kHillClimbing:
          Climb();
          break;
      }
    }
    return result_;
  }

 private:
  // A claim whose true gain is not above 0 must not be accepted.
  GateAnswer Submit(const std::vector<double>& gains,
                    SimulatedGate::Claim claim = SimulatedGate::Claim::kGain,
                    double true_gain = 0) {
    ++result_.attempts;
    GateAnswer answer = gate_.Judge(gains, claim);
    if (true_gain > 0) return answer;
    if (answer.told_gain.has_value()) {
      result_.best_told = std::max(result_.best_told, *answer.told_gain);
    }
    if (answer.is_accepted && claim == SimulatedGate::Claim::kGain) {
      ++result_.accepted;
      if (result_.first_accept == 0) result_.first_accept = result_.attempts;
    }
    return answer;
  }

  // Pushes a new direction beside a true gain, and learns from the answer with
  // which sign chance favours it.
  void Collect(std::vector<double> direction, double true_gain,
               SimulatedGate::Claim claim) {
    std::vector<double> pushed = direction;
    for (double& gain : pushed) gain += true_gain;
    const GateAnswer answer = Submit(pushed, claim, true_gain);
    double sign = random_() % 2 == 0 ? 1 : -1;
    if (options_.rule == GateRule::kNaive) {
      sign = *answer.told_gain > true_gain ? 1 : -1;
    } else if (claim == SimulatedGate::Claim::kNone) {
      sign = answer.is_regressed ? -1 : 1;
    } else if (true_gain > 0) {
      sign = answer.is_accepted ? 1 : -1;
      true_gain_ *= answer.is_accepted ? 0.97 : 1.03;
    }
    AddTo(sum_, direction, sign);
    if (++collected_ % kCollected == 0 &&
        result_.attempts < options_.attempts) {
      Submit(Scaled(sum_, 1 / std::sqrt(collected_)));
    }
  }

  void Climb() {
    // A step that keeps the size of the change.
    std::vector<double> next = Scaled(sum_, std::sqrt(1 - 0.1));
    AddTo(next, gate_.Draw(), std::sqrt(0.1));
    const GateAnswer answer = Submit(next);
    const double now =
        answer.told_gain.value_or(answer.is_accepted ? best_ : best_ - 1);
    if (now < best_ && result_.attempts > 1) return;
    best_ = std::max(best_, now);
    sum_ = std::move(next);
  }

  const Attack attack_;
  const CampaignOptions options_;
  SimulatedGate gate_;
  std::mt19937_64 random_;
  std::vector<double> sum_;
  int collected_ = 0;
  double true_gain_ = 3 * gate_.error();
  double best_ = 0;
  CampaignResult result_;
};

}  // namespace

SimulatedGate::SimulatedGate(const CampaignOptions& options)
    : options_(options), random_(options.seed) {
  std::normal_distribution<double> normal(0, 1);
  base_.set_suite("models/m/suites/s");
  base_.set_metric("perplexity");
  base_.set_value(10);
  for (int i = 0; i < options.items; ++i) {
    base_.add_scores(-(2.3 + 0.3 * normal(random_)) * options.tokens);
    base_.add_tokens(options.tokens);
  }
  candidate_ = base_;
}

double SimulatedGate::error() const {
  return options_.noise / std::sqrt(static_cast<double>(options_.items));
}

std::vector<double> SimulatedGate::Draw() {
  std::normal_distribution<double> normal(0, options_.noise);
  std::vector<double> out(static_cast<size_t>(options_.items));
  for (double& value : out) value = normal(random_);
  return out;
}

void SimulatedGate::Age(int64_t claims, int64_t organisations) {
  sum_.set_attempts(claims);
  sum_.set_claims(claims);
  sum_.set_claimants(organisations);
}

GateAnswer SimulatedGate::Judge(const std::vector<double>& gains, Claim claim) {
  for (int i = 0; i < options_.items; ++i) {
    candidate_.set_scores(
        i, base_.scores(i) + gains[static_cast<size_t>(i)] * options_.tokens);
  }
  auto difference = PairedDifference::Compare(base_, candidate_);
  CAIRN_CHECK(difference.ok());
  GateSuite suite{.name = base_.suite(),
                  .is_claimed = claim == Claim::kGain,
                  .margin = options_.margin,
                  .difference = *std::move(difference)};
  if (options_.rule == GateRule::kLedger) {
    suite.claim_level =
        ClaimLevel(options_.alpha, NextClaim(sum_, told_), told_);
  }
  const GateDecision decision =
      DecideContribution({suite}, options_.alpha, v1::Verdict::FAIL);
  // Of a report, what the ledger reads.
  v1::Report report;
  report.set_gain(suite.difference.gain());
  report.set_rounding_step(suite.difference.RoundingStep(options_.margin));
  CountAttempt(suite, sum_, told_);
  Tell(suite, decision, told_, report);
  GateAnswer answer;
  answer.is_accepted = decision.decision == v1::Verdict::PASS;
  answer.is_undecided = decision.decision == v1::Verdict::REVIEW;
  for (const v1::Reason& reason : decision.reasons) {
    answer.is_regressed =
        answer.is_regressed || reason.code() == v1::Reason::SUITE_REGRESSED;
  }
  if (options_.rule == GateRule::kNaive) {
    const double step = suite.difference.standard_error();
    answer.told_gain = std::round(report.gain() / step) * step;
  } else if (report.has_told_gain()) {
    answer.told_gain = report.told_gain();
  }
  return answer;
}

CampaignResult RunCampaign(Attack attack, const CampaignOptions& options) {
  return Author(attack, options).Run();
}

double ShownShare(const CampaignOptions& options, double gain,
                  int64_t claims_before, int64_t organisations_before,
                  int trials) {
  int shown = 0;
  CampaignOptions each = options;
  for (int i = 0; i < trials; ++i) {
    each.seed = options.seed * 1'000'003 + static_cast<uint64_t>(i);
    SimulatedGate gate(each);
    gate.Age(claims_before, organisations_before);
    std::vector<double> gains = gate.Draw();
    for (double& value : gains) value -= std::log1p(-gain);
    shown += gate.Judge(gains, SimulatedGate::Claim::kGain).is_accepted;
  }
  return static_cast<double>(shown) / trials;
}

}  // namespace cairn::testing
