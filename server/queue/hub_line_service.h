#ifndef CAIRN_SERVER_QUEUE_HUB_LINE_SERVICE_H_
#define CAIRN_SERVER_QUEUE_HUB_LINE_SERVICE_H_

#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"
#include "server/flow/line_service.h"
#include "server/flow/stage.h"
#include "storage/blob_store.h"

namespace cairn {

// Replays and reverts over the hub's records.
class HubLineService : public LineService {
 public:
  // Both must outlive the service.
  HubLineService(HubStore& store, const WorkerPresence& workers)
      : store_(store), workers_(workers) {}

  absl::StatusOr<v1::Replay> StartReplay(
      const Caller& caller, const v1::StartReplayRequest& request) override;
  absl::StatusOr<v1::Replay> GetReplay(
      const v1::GetReplayRequest& request) const override;
  // While a revert of the contribution is under way it is returned as it is.
  absl::StatusOr<v1::Batch> RevertContribution(
      const Caller& caller,
      const v1::RevertContributionRequest& request) override;

 private:
  HubStore& store_;
  const WorkerPresence& workers_;
};

// Moves replays on, one merge a step; the last one is for its digest only.
class ReplayStage : public Stage {
 public:
  ReplayStage(HubStore& store, const BlobStore& blobs)
      : store_(store), blobs_(blobs) {}

  absl::string_view name() const override { return "replay"; }
  absl::StatusOr<int> RunPass() override;

 private:
  absl::StatusOr<bool> Advance(store::v1::ReplayRecord record);
  absl::StatusOr<bool> Finish(store::v1::ReplayRecord record,
                              const std::string& digest);
  absl::StatusOr<bool> Fail(store::v1::ReplayRecord record,
                            const v1::Reason& reason);

  HubStore& store_;
  const BlobStore& blobs_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_HUB_LINE_SERVICE_H_
