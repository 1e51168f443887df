#ifndef CAIRN_SERVER_RELEASE_RELEASE_CATALOG_H_
#define CAIRN_SERVER_RELEASE_RELEASE_CATALOG_H_

#include "absl/status/statusor.h"
#include "cairn/v1/release.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/line_service.h"

namespace cairn {

// Published releases, as they are read and marked; replays and reverts go on
// to the line service once the caller may ask for them. Checks permissions
// itself. Thread-safe.
class ReleaseCatalog {
 public:
  // All must outlive it.
  ReleaseCatalog(HubStore& store, LineService& line,
                 const WorkerPresence& workers)
      : store_(store), line_(line), workers_(workers) {}

  absl::StatusOr<v1::Release> Get(const Caller& caller,
                                  const v1::GetReleaseRequest& request) const;
  // Oldest first.
  absl::StatusOr<v1::ListReleasesResponse> List(
      const Caller& caller, const v1::ListReleasesRequest& request) const;
  // The newest release that has the digest. NOT_FOUND when none has.
  absl::StatusOr<v1::Release> Match(
      const Caller& caller, const v1::MatchReleaseRequest& request) const;
  // Marking it again with the same note is success.
  absl::StatusOr<v1::Release> Yank(const Caller& caller,
                                   const v1::YankReleaseRequest& request);
  absl::StatusOr<v1::Replay> StartReplay(const Caller& caller,
                                         const v1::StartReplayRequest& request);
  absl::StatusOr<v1::Replay> GetReplay(
      const Caller& caller, const v1::GetReplayRequest& request) const;
  absl::StatusOr<v1::Batch> Revert(
      const Caller& caller, const v1::RevertContributionRequest& request);
  // The delta between two releases, which is asked for if there is none.
  // RESOURCE_EXHAUSTED when the model has enough of them under way.
  absl::StatusOr<v1::Delta> RequestDelta(
      const Caller& caller, const v1::RequestDeltaRequest& request);

 private:
  HubStore& store_;
  LineService& line_;
  const WorkerPresence& workers_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_CATALOG_H_
