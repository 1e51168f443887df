#ifndef CAIRN_SERVER_QUEUE_BISECTION_H_
#define CAIRN_SERVER_QUEUE_BISECTION_H_

#include <string>
#include <vector>

#include "absl/types/span.h"
#include "cairn/store/v1/records.pb.h"

namespace cairn {

// What to do next with a batch whose merge failed its gate.
struct BisectionPlan {
  // The members to merge and judge next; empty once all is settled.
  std::vector<std::string> next = {};
  // `next` is one member that failed alone and is tried once more.
  bool repeats = false;

  // Once settled: members that pass together (some trial holds exactly them),
  // members that fail alone, and members that pass alone but not beside
  // `keep`. All in queue order.
  std::vector<std::string> keep = {};
  std::vector<std::string> culprits = {};
  std::vector<std::string> held = {};
};

// Halves a failed set until the members that fail alone are found; a failing
// singleton counts only when it failed twice. Halves that pass alone but fail
// together: the earlier is kept, the later held. A function of the trials
// alone, so that it goes on after a restart; `trials` begins with the whole
// batch. The number of trials is at most about 3 n for n members.
BisectionPlan PlanBisection(
    absl::Span<const store::v1::TrialRecord* const> trials);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_BISECTION_H_
