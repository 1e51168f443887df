#ifndef CAIRN_SERVER_FLOW_LINE_SERVICE_H_
#define CAIRN_SERVER_FLOW_LINE_SERVICE_H_

#include "absl/status/statusor.h"
#include "cairn/v1/batch.pb.h"
#include "cairn/v1/release.pb.h"
#include "server/flow/caller.h"

namespace cairn {

// What can be done to a line of releases after the fact. Implemented by
// server/queue; the handler of ReleaseService calls it after it has checked
// the caller's permission. Thread-safe.
class LineService {
 public:
  virtual ~LineService() = default;

  // Starts repeating the merge of a release. FAILED_PRECONDITION when the
  // release was not merged. `release` is its full name, not a reference.
  virtual absl::StatusOr<v1::Replay> StartReplay(
      const Caller& caller, const v1::StartReplayRequest& request) = 0;
  virtual absl::StatusOr<v1::Replay> GetReplay(
      const v1::GetReplayRequest& request) const = 0;
  // Starts a batch that takes a contribution out of the line.
  // FAILED_PRECONDITION unless it is part of the head's line.
  virtual absl::StatusOr<v1::Batch> RevertContribution(
      const Caller& caller, const v1::RevertContributionRequest& request) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_LINE_SERVICE_H_
