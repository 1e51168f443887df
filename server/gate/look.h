#ifndef CAIRN_SERVER_GATE_LOOK_H_
#define CAIRN_SERVER_GATE_LOOK_H_

#include <cstdint>
#include <iterator>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/v1/job.pb.h"
#include "server/gate/gate.h"

namespace cairn {

// Evaluation in parts: the items of a gate split are scored in an order that
// chance fixed once and for all, and after each part somebody looks whether the
// rest is needed. Every test of a decision spends its level over the looks, so
// that by the union bound it errs no more often than one look at all items
// would, however the looks depend on each other.
struct Look {
  double items = 1;  // share of the items that are scored by then
  double level = 1;  // share of every level that this look may spend
};
inline constexpr Look kLooks[] = {{0.25, 0.05}, {0.5, 0.15}, {1, 0.8}};
inline constexpr int kLastLook = static_cast<int>(std::size(kLooks)) - 1;

// The items that look number `look` (from 0) scores anew, ascending; maybe
// none. `whole`: scores of any weights on all items of the split, for its
// groups, which stay together.
std::vector<int32_t> ItemsOfLook(const v1::SplitScores& whole, int look);

// The scores of some items out of those of all; `value` is over these.
v1::SplitScores PartOf(const v1::SplitScores& whole,
                       absl::Span<const int32_t> items);

// Scores of parts of one split as those of one part. INVALID_ARGUMENT when they
// are not parts, or overlap.
absl::StatusOr<v1::SplitScores> JoinParts(
    absl::Span<const v1::SplitScores* const> parts);

// DecideContribution on the items scored by look number `look`; nullopt when
// the rest must be scored. Before the last look it
//   PASSes  what passes, and surely learnt no canary;
//   FAILs   what surely lost more than a margin or learnt a canary, and what
//           claims a gain that all items together would hardly show (three
//           predictive standard errors).
// Claim levels and `alpha` are those of the whole evaluation.
std::optional<GateDecision> DecideLook(absl::Span<const GateSuite> suites,
                                       double alpha,
                                       v1::Verdict::Decision on_canary,
                                       int look);

// `suites` with the claim levels that one look may spend.
std::vector<GateSuite> AtLook(absl::Span<const GateSuite> suites, int look);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_LOOK_H_
