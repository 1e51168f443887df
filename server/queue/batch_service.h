#ifndef CAIRN_SERVER_QUEUE_BATCH_SERVICE_H_
#define CAIRN_SERVER_QUEUE_BATCH_SERVICE_H_

#include "absl/status/statusor.h"
#include "cairn/v1/batch.pb.h"
#include "cairn/v1/queue.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/line_service.h"
#include "server/flow/stage.h"
#include "server/gate/contribution_view.h"

namespace cairn {

// Starts batches and tells about them; the queue's edits. Callers have been
// authorised. Thread-safe.
class BatchService {
 public:
  // Both must outlive the service.
  BatchService(HubStore& store, const WorkerPresence& workers)
      : store_(store), workers_(workers) {}

  // Takes what is queued and not held into a batch. FAILED_PRECONDITION when
  // nothing is, or when a batch of the model is running.
  absl::StatusOr<v1::Batch> Start(const Caller& caller,
                                  const v1::StartBatchRequest& request);
  absl::StatusOr<v1::Batch> Get(const v1::GetBatchRequest& request,
                                Figures figures) const;
  absl::StatusOr<v1::ListBatchesResponse> List(
      const v1::ListBatchesRequest& request, Figures figures) const;

  absl::StatusOr<v1::ListQueueResponse> ListQueue(
      const Caller& caller, const v1::ListQueueRequest& request,
      Figures figures) const;
  // FAILED_PRECONDITION unless it is queued; ABORTED for another etag.
  absl::StatusOr<v1::Contribution> Hold(const Caller& caller,
                                        const v1::QueueEditRequest& request);
  absl::StatusOr<v1::Contribution> Unhold(const Caller& caller,
                                          const v1::QueueEditRequest& request);

 private:
  absl::StatusOr<v1::Contribution> SetHeld(const Caller& caller,
                                           const v1::QueueEditRequest& request,
                                           bool held);

  HubStore& store_;
  const WorkerPresence& workers_;
};

// Starts a batch by itself when the policy's count or age is reached.
class AutoBatchStage : public Stage {
 public:
  AutoBatchStage(HubStore& store, BatchService& batches)
      : store_(store), batches_(batches) {}

  absl::string_view name() const override { return "auto_batch"; }
  absl::StatusOr<int> RunPass() override;

 private:
  HubStore& store_;
  BatchService& batches_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_BATCH_SERVICE_H_
