#ifndef CAIRN_SERVER_GATE_ATTRIBUTION_H_
#define CAIRN_SERVER_GATE_ATTRIBUTION_H_

#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/job.pb.h"
#include "cairn/v1/model.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// What the scores of a search job with `attribute` say of the merge, of a
// placebo and of each member. A member that was alone adds what the merge does.
// FAILED_PRECONDITION naming what the result lacks.
absl::StatusOr<v1::Attribution> MakeAttribution(const HubReader& reader,
                                                const v1::SearchSpec& spec,
                                                const v1::JobResult& result,
                                                const v1::Policy& policy);

// As others than reviewers see it: gains in steps, without their errors.
v1::Attribution Rounded(const v1::Attribution& attribution);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_ATTRIBUTION_H_
