#ifndef CAIRN_SERVER_QUEUE_LINE_H_
#define CAIRN_SERVER_QUEUE_LINE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"

namespace cairn {

// How to reach some weights by repeating merges: begin with the weights of a
// published release and merge the steps one after the other.
struct LinePlan {
  std::string start;                           // models/M/releases/V
  std::vector<store::v1::LineStep> reached;    // steps that `start` holds
  std::vector<store::v1::LineStep> remaining;  // steps to merge, oldest first
};

// The line of `release` without one contribution: begins with the last release
// before it entered; its own step, if others are in it, and all later ones are
// merged again. FAILED_PRECONDITION when the line does not hold it.
absl::StatusOr<LinePlan> PlanWithout(const store::v1::ReleaseRecord& release,
                                     absl::string_view contribution);

// The last merge that led to a release, to be done again.
// FAILED_PRECONDITION for an imported release. `remaining` is empty for a
// release that went back to the first one's weights.
absl::StatusOr<LinePlan> PlanReplay(const store::v1::ReleaseRecord& release);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_LINE_H_
