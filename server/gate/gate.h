#ifndef CAIRN_SERVER_GATE_GATE_H_
#define CAIRN_SERVER_GATE_GATE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/store/v1/records.pb.h"
#include "cairn/v1/model.pb.h"
#include "server/gate/paired_difference.h"

namespace cairn {

// One suite of a decision.
struct GateSuite {
  std::string name;  // models/M/suites/S
  bool is_protected = false;
  bool is_claimed = false;
  bool is_canary = false;   // nobody should get better at it
  double margin = 0;        // allowed loss, in the unit of the gain
  double gain_unit = 0.01;  // what counts as one unit in the mean gain
  double claim_level = 1;   // what the ledger leaves of alpha for a claim
  PairedDifference difference;
};

// What a gate decided. PASS, FAIL, or REVIEW when a suite is too small to
// tell; `reasons` say why for the last two.
struct GateDecision {
  v1::Verdict::Decision decision = v1::Verdict::PASS;
  std::vector<v1::Reason> reasons;
};

// Contribution: every suite must be shown to lose no more than its margin,
// every claimed suite must be shown to gain.
//   FAIL  a suite surely lost more than its margin (SUITE_REGRESSED), or a
//         claim was not shown (CLAIM_NOT_SHOWN);
//   REVIEW  otherwise, when some suite cannot be decided (INCONCLUSIVE, with
//         the minimum detectable effect).
// Failing and claims are each corrected by Holm over their suites: failing at
// level alpha, claims at the least claim level of the claimed suites. Passing
// is an intersection-union test, every suite having to pass at level alpha, and
// needs no correction.
// A sure gain beyond the margin on a canary suite is SCREEN_ANOMALY and makes
// the decision at least `on_canary`; losses there mean nothing.
GateDecision DecideContribution(
    absl::Span<const GateSuite> suites, double alpha,
    v1::Verdict::Decision on_canary = v1::Verdict::FAIL);

// Candidate of a batch: every protected suite passes as above, no suite surely
// lost more than its margin, no claimed suite is surely below the parent, and
// the lower bound of the mean gain over the claimed suites (over all, when
// none is claimed) is above 0 (else NO_GAIN). PASS or FAIL. A sure gain on a
// canary suite fails it (SCREEN_ANOMALY).
GateDecision DecideCandidate(absl::Span<const GateSuite> suites, double alpha);

// What fails only when a protected suite surely lost more than its margin: the
// audit of a candidate that has shown at the gate that it lost less, and
// weights that go back to an earlier state.
GateDecision DecideHarm(absl::Span<const GateSuite> suites, double alpha);

// Mean over suites of gain / gain_unit, and whether a protected suite's point
// loss is beyond its margin: what the search for lambda goes by.
v1::SearchPoint MakeSearchPoint(double lambda,
                                absl::Span<const GateSuite> suites);

// True when it is sure of some suite, canaries aside, that it got better: Holm
// over the suites at level alpha.
bool ShowsGain(absl::Span<const GateSuite> suites, double alpha);

// The margin in force for a suite: its own or the policy's.
double MarginOf(const store::v1::SuiteRecord& suite, const v1::Policy& policy);
// What the policy wants done about an anomaly that this screen found: FAIL,
// REVIEW, or PASS for a label only.
v1::Verdict::Decision OnAnomaly(const v1::Policy& policy,
                                absl::string_view screen);
// The unit of the mean gain: the policy's margin of the suite's metric.
double GainUnitOf(absl::string_view metric, const v1::Policy& policy);

// A verdict as authors see it: no exact figures of the gate, no ids of items.
v1::Verdict WithoutFigures(const v1::Verdict& verdict);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_GATE_H_
