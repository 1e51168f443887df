#ifndef CAIRN_SERVER_FLOW_POLICY_RULES_H_
#define CAIRN_SERVER_FLOW_POLICY_RULES_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/model.pb.h"

namespace cairn {

// The policy as it holds: unset fields take their defaults (README.md of this
// folder), everything else is checked. Unset means zero for numbers, empty for
// texts and lists, absent for `margin` and `batch`; `review_if: [none]` sends
// nothing to people by itself. INVALID_ARGUMENT naming the key, its value and
// what it may be.
absl::StatusOr<v1::Policy> CompletePolicy(v1::Policy policy);

// The margin that the policy gives a suite of this metric.
double PolicyMargin(const v1::Policy& policy, absl::string_view metric,
                    bool is_protected);

// Contributions that a gate split judges in one epoch; the default for
// policies from before there was such a limit.
int64_t GateAttempts(const v1::Policy& policy);

// Items of all gate splits together from which on a contribution is scored in
// parts; likewise.
int64_t EarlyStopItems(const v1::Policy& policy);

// INVALID_ARGUMENT unless it is empty or has the form of an SPDX identifier.
absl::Status CheckLicense(absl::string_view license);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_POLICY_RULES_H_
