#include "server/gate/gate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boost/math/distributions/students_t.hpp"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

std::string Percent(double value) {
  return absl::StrFormat("%.3g %%", 100 * value);
}

// Holm's step-down procedure: which hypotheses are rejected at level alpha
// together. Holm 1979, "A simple sequentially rejective multiple test
// procedure".
std::vector<bool> HolmRejects(const std::vector<double>& p, double alpha) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return p[a] < p[b]; });
  std::vector<bool> rejected(p.size(), false);
  if (alpha <= 0) return rejected;
  for (size_t i = 0; i < order.size(); ++i) {
    if (p[order[i]] > alpha / static_cast<double>(p.size() - i)) break;
    rejected[order[i]] = true;
  }
  return rejected;
}

std::vector<bool> Rejects(absl::Span<const GateSuite> suites, double alpha,
                          const std::function<double(const GateSuite&)>& p) {
  std::vector<double> values;
  for (const GateSuite& suite : suites) values.push_back(p(suite));
  return HolmRejects(values, alpha);
}

v1::Reason MakeReason(v1::Reason::Code code, const GateSuite& suite,
                      std::string message, double measured, double limit) {
  v1::Reason reason;
  reason.set_code(code);
  reason.set_suite(suite.name);
  reason.set_message(std::move(message));
  reason.set_measured(measured);
  reason.set_limit(limit);
  return reason;
}

v1::Reason Regressed(const GateSuite& suite) {
  return MakeReason(
      v1::Reason::SUITE_REGRESSED, suite,
      absl::StrCat("suite ", ShortName(suite.name),
                   " got worse by more than its margin of ",
                   Percent(suite.margin),
                   "; train with some data of that domain, or with a smaller "
                   "change, and push again"),
      -suite.difference.gain(), suite.margin);
}

v1::Reason NotShown(const GateSuite& suite) {
  return MakeReason(
      v1::Reason::CLAIM_NOT_SHOWN, suite,
      absl::StrCat("the claimed gain on suite ", ShortName(suite.name),
                   " was not shown; train longer, or push without the claim"),
      suite.difference.gain(), 0);
}

v1::Reason Undecided(const GateSuite& suite, double alpha) {
  return MakeReason(
      v1::Reason::INCONCLUSIVE, suite,
      absl::StrCat("suite ", ShortName(suite.name),
                   " is too small to tell whether it got worse by its margin "
                   "of ",
                   Percent(suite.margin),
                   "; a reviewer decides, and sees the smallest effect that it "
                   "shows"),
      suite.difference.MinimumDetectableEffect(alpha), suite.margin);
}

v1::Reason LearntCanary(const GateSuite& suite) {
  return MakeReason(
      v1::Reason::SCREEN_ANOMALY, suite,
      absl::StrCat("the update got better at canary suite ",
                   ShortName(suite.name),
                   ", which no honest training set teaches; look at what it "
                   "was trained on"),
      suite.difference.gain(), suite.margin);
}

v1::Reason BelowParent(const GateSuite& suite) {
  return MakeReason(
      v1::Reason::SUITE_REGRESSED, suite,
      absl::StrCat("the merge is worse than its parent on suite ",
                   ShortName(suite.name), ", which a member claims to improve"),
      -suite.difference.gain(), 0);
}

bool Passes(const GateSuite& suite, double alpha) {
  return suite.difference.IsSurelyAtLeast(-suite.margin, alpha);
}

// Which suites surely lost more than their margins.
std::vector<bool> SurelyRegressed(absl::Span<const GateSuite> suites,
                                  double alpha) {
  return Rejects(suites, alpha, [](const GateSuite& s) {
    return s.difference.PValueBelow(-s.margin);
  });
}

std::vector<GateSuite> Only(absl::Span<const GateSuite> suites,
                            const std::function<bool(const GateSuite&)>& keep) {
  std::vector<GateSuite> out;
  for (const GateSuite& s : suites) {
    if (keep(s)) out.push_back(s);
  }
  return out;
}
std::vector<GateSuite> Claimed(absl::Span<const GateSuite> suites) {
  return Only(suites, [](const GateSuite& s) { return s.is_claimed; });
}
std::vector<GateSuite> Canaries(absl::Span<const GateSuite> suites) {
  return Only(suites, [](const GateSuite& s) { return s.is_canary; });
}
std::vector<GateSuite> Ordinary(absl::Span<const GateSuite> suites) {
  return Only(suites, [](const GateSuite& s) { return !s.is_canary; });
}

// The level that claims are held to together.
double ClaimLevel(absl::Span<const GateSuite> claimed, double alpha) {
  for (const GateSuite& s : claimed) alpha = std::min(alpha, s.claim_level);
  return alpha;
}

// A reason for every canary suite that was surely learnt.
std::vector<v1::Reason> LearntCanaries(absl::Span<const GateSuite> suites,
                                       double alpha) {
  const std::vector<GateSuite> canaries = Canaries(suites);
  const std::vector<bool> learnt = Rejects(
      canaries, alpha,
      [](const GateSuite& s) { return s.difference.PValueAbove(s.margin); });
  std::vector<v1::Reason> reasons;
  for (size_t i = 0; i < canaries.size(); ++i) {
    if (learnt[i]) reasons.push_back(LearntCanary(canaries[i]));
  }
  return reasons;
}

// Lower bound of the mean of gain / unit over independent suites, with
// Welch's and Satterthwaite's degrees of freedom.
double MeanGainLowerBound(absl::Span<const GateSuite> suites, double alpha) {
  if (suites.empty()) return 0;
  double mean = 0, variance = 0, fourth = 0;
  const double k = static_cast<double>(suites.size());
  for (const GateSuite& s : suites) {
    const double scale = 1 / (s.gain_unit * k);
    const double v = std::pow(s.difference.standard_error() * scale, 2);
    mean += s.difference.gain() * scale;
    variance += v;
    const double degrees = s.difference.degrees_of_freedom();
    if (degrees < 1) return -1 / s.gain_unit;
    fourth += v * v / degrees;
  }
  if (variance <= 0 || fourth <= 0) return mean;
  const boost::math::students_t student(variance * variance / fourth);
  return mean - boost::math::quantile(student, 1 - alpha) * std::sqrt(variance);
}

double MeanGain(absl::Span<const GateSuite> suites) {
  double mean = 0;
  for (const GateSuite& s : suites) mean += s.difference.gain() / s.gain_unit;
  return suites.empty() ? 0 : mean / static_cast<double>(suites.size());
}

void Fail(GateDecision& decision, v1::Reason reason) {
  decision.decision = v1::Verdict::FAIL;
  decision.reasons.push_back(std::move(reason));
}

}  // namespace

GateDecision DecideContribution(absl::Span<const GateSuite> all, double alpha,
                                v1::Verdict::Decision on_canary) {
  GateDecision decision;
  std::vector<v1::Reason> undecided;
  const std::vector<GateSuite> suites = Ordinary(all);
  const std::vector<bool> regressed = SurelyRegressed(suites, alpha);
  for (size_t i = 0; i < suites.size(); ++i) {
    if (regressed[i]) {
      Fail(decision, Regressed(suites[i]));
    } else if (!Passes(suites[i], alpha)) {
      undecided.push_back(Undecided(suites[i], alpha));
    }
  }
  const std::vector<GateSuite> claimed = Claimed(suites);
  const std::vector<bool> shown =
      Rejects(claimed, ClaimLevel(claimed, alpha),
              [](const GateSuite& s) { return s.difference.PValueAbove(0); });
  for (size_t i = 0; i < claimed.size(); ++i) {
    if (!shown[i]) Fail(decision, NotShown(claimed[i]));
  }
  if (on_canary != v1::Verdict::PASS) {
    for (v1::Reason& reason : LearntCanaries(all, alpha)) {
      if (on_canary == v1::Verdict::FAIL) {
        Fail(decision, std::move(reason));
      } else {
        undecided.push_back(std::move(reason));
      }
    }
  }
  if (decision.decision == v1::Verdict::PASS && !undecided.empty()) {
    decision.decision = v1::Verdict::REVIEW;
    decision.reasons = std::move(undecided);
  }
  return decision;
}

GateDecision DecideCandidate(absl::Span<const GateSuite> all, double alpha) {
  GateDecision decision;
  const std::vector<GateSuite> suites = Ordinary(all);
  const std::vector<bool> regressed = SurelyRegressed(suites, alpha);
  for (size_t i = 0; i < suites.size(); ++i) {
    if (regressed[i]) {
      Fail(decision, Regressed(suites[i]));
    } else if (suites[i].is_protected && !Passes(suites[i], alpha)) {
      Fail(decision, Undecided(suites[i], alpha));
    }
  }
  for (v1::Reason& reason : LearntCanaries(all, alpha)) {
    Fail(decision, std::move(reason));
  }
  const std::vector<GateSuite> claimed = Claimed(suites);
  const std::vector<bool> below =
      Rejects(claimed, alpha,
              [](const GateSuite& s) { return s.difference.PValueBelow(0); });
  for (size_t i = 0; i < claimed.size(); ++i) {
    if (below[i]) Fail(decision, BelowParent(claimed[i]));
  }
  const absl::Span<const GateSuite> promised =
      claimed.empty() ? absl::MakeConstSpan(suites)
                      : absl::MakeConstSpan(claimed);
  if (const double lower = MeanGainLowerBound(promised, alpha); lower <= 0) {
    v1::Reason reason;
    reason.set_code(v1::Reason::NO_GAIN);
    reason.set_message(
        claimed.empty()
            ? "the merge is not shown to be better than its parent over the "
              "suites; leave it, or bring larger gains"
            : "the merge is not shown to be better than its parent over the "
              "suites that its members claim; leave it, or bring larger gains");
    reason.set_measured(MeanGain(promised));
    reason.set_limit(0);
    Fail(decision, std::move(reason));
  }
  return decision;
}

GateDecision DecideHarm(absl::Span<const GateSuite> suites, double alpha) {
  GateDecision decision;
  const std::vector<bool> regressed = SurelyRegressed(suites, alpha);
  for (size_t i = 0; i < suites.size(); ++i) {
    if (suites[i].is_protected && regressed[i]) {
      Fail(decision, Regressed(suites[i]));
    }
  }
  return decision;
}

v1::SearchPoint MakeSearchPoint(double lambda,
                                absl::Span<const GateSuite> suites) {
  v1::SearchPoint point;
  point.set_lambda(lambda);
  const std::vector<GateSuite> ordinary = Ordinary(suites);
  point.set_mean_gain(MeanGain(ordinary));
  point.set_excluded(
      std::any_of(ordinary.begin(), ordinary.end(), [](const GateSuite& suite) {
        return suite.is_protected && suite.difference.gain() < -suite.margin;
      }));
  return point;
}

bool ShowsGain(absl::Span<const GateSuite> suites, double alpha) {
  const std::vector<bool> shown =
      Rejects(Ordinary(suites), alpha,
              [](const GateSuite& s) { return s.difference.PValueAbove(0); });
  return std::find(shown.begin(), shown.end(), true) != shown.end();
}

double MarginOf(const store::v1::SuiteRecord& suite, const v1::Policy& policy) {
  if (suite.own_margin()) return suite.suite().margin();
  if (!suite.suite().protected_()) return policy.unprotected_margin();
  return GainUnitOf(suite.suite().metric(), policy);
}

v1::Verdict::Decision OnAnomaly(const v1::Policy& policy,
                                absl::string_view screen) {
  auto lists = [&](const auto& names) {
    return std::find(names.begin(), names.end(), screen) != names.end();
  };
  if (lists(policy.screens_block())) return v1::Verdict::FAIL;
  if (lists(policy.screens_review())) return v1::Verdict::REVIEW;
  return v1::Verdict::PASS;
}

double GainUnitOf(absl::string_view metric, const v1::Policy& policy) {
  const double margin = IsLikelihoodMetric(metric)
                            ? policy.margin().perplexity()
                            : policy.margin().accuracy();
  return margin > 0 ? margin : 0.01;
}

v1::Verdict WithoutFigures(const v1::Verdict& verdict) {
  v1::Verdict out = verdict;
  if (verdict.stage() != "gate" && verdict.stage() != "batch") return out;
  for (v1::Reason& reason : *out.mutable_reasons()) {
    reason = WithoutItems(reason);
    reason.clear_measured();
  }
  return out;
}

}  // namespace cairn
