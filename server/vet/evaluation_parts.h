#ifndef CAIRN_SERVER_VET_EVALUATION_PARTS_H_
#define CAIRN_SERVER_VET_EVALUATION_PARTS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/store/v1/records.pb.h"
#include "cairn/v1/job.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// Leaves the items of the first look in `spec`, an evaluation of gate splits,
// when they are many enough for the policy and scores of the base are known
// for all of them, on whatever device; else leaves it whole.
absl::Status AskForFirstLook(const HubReader& reader, const v1::Policy& policy,
                             v1::EvaluateSpec& spec);

// True when only some items are asked for.
bool IsInParts(const v1::EvaluateSpec& spec);

// The spec of look number `look`, given the first one's and scores of the base
// on every gate split by suite. Suites that have nothing more are left out.
v1::EvaluateSpec SpecOfLook(
    const v1::EvaluateSpec& first, int look,
    const std::map<std::string, v1::SplitScores>& base);

// One result of the scores of all looks so far, in the order of the first
// spec's suites. INVALID_ARGUMENT when they do not fit together.
absl::StatusOr<v1::EvaluateResult> JoinLooks(
    const v1::EvaluateSpec& first,
    const std::vector<v1::EvaluateResult>& looks);

// How long all of an evaluation in parts takes by the time of its first job,
// and half as long again. It is fixed before anything is decided, so that it
// tells nothing.
absl::Duration HoldPeriod(const store::v1::JobRecord& first);
// Until when no decision is told: a period after the first job began.
absl::Time HoldUntil(const store::v1::JobRecord& first);

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_EVALUATION_PARTS_H_
