#ifndef CAIRN_SERVER_REVIEW_REVIEW_SERVICE_H_
#define CAIRN_SERVER_REVIEW_REVIEW_SERVICE_H_

#include "absl/status/statusor.h"
#include "cairn/v1/review.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/stage.h"

namespace cairn {

// What people decide about contributions that wait for them. Callers have been
// authorised to review; that nobody decides on their own update is checked
// here, before anything is said about its state (PERMISSION_DENIED). Decisions
// carry the etag and the update digest that the reviewer saw (ABORTED when
// they are no longer so) and are for NEEDS_REVIEW only (FAILED_PRECONDITION).
// Thread-safe.
class ReviewService {
 public:
  // Both must outlive the service.
  ReviewService(HubStore& store, const WorkerPresence& workers)
      : store_(store), workers_(workers) {}

  // With exact figures.
  absl::StatusOr<v1::Contribution> Get(
      const Caller& caller, const v1::GetReviewRequest& request) const;
  // NEEDS_REVIEW -> QUEUED once the policy's number of people approved.
  // Approving twice is success.
  absl::StatusOr<v1::Contribution> Approve(const Caller& caller,
                                           const v1::ReviewRequest& request);
  // NEEDS_REVIEW -> REJECTED. A note is required.
  absl::StatusOr<v1::Contribution> Reject(const Caller& caller,
                                          const v1::ReviewRequest& request);
  absl::StatusOr<v1::Contribution> AddComment(
      const Caller& caller, const v1::AddCommentRequest& request);

 private:
  HubStore& store_;
  const WorkerPresence& workers_;
};

// NEEDS_REVIEW -> WITHDRAWN when nobody decided for so long.
class ReviewExpiryStage : public Stage {
 public:
  // `store` must outlive the stage.
  explicit ReviewExpiryStage(HubStore& store,
                             absl::Duration expire_after = absl::Hours(24 * 30))
      : store_(store), expire_after_(expire_after) {}

  absl::string_view name() const override { return "review_expiry"; }
  absl::Duration period() const override { return absl::Minutes(10); }
  absl::StatusOr<int> RunPass() override;

 private:
  HubStore& store_;
  const absl::Duration expire_after_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_REVIEW_REVIEW_SERVICE_H_
