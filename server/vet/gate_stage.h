#ifndef CAIRN_SERVER_VET_GATE_STAGE_H_
#define CAIRN_SERVER_VET_GATE_STAGE_H_

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "storage/blob_store.h"

namespace cairn {

// SCREENED -> EVALUATED or REJECTED -> QUEUED or NEEDS_REVIEW: has each update
// evaluated on the gate split of every suite, on top of its own base, decides
// on the paired scores, and lets the policy say whether people must look.
// Waits while a suite of the model is CHECKING.
class GateStage : public Stage {
 public:
  // `store` and `blobs` must outlive the stage.
  GateStage(HubStore& store, const BlobStore& blobs)
      : store_(store), blobs_(blobs) {}

  absl::string_view name() const override { return "gate"; }
  absl::StatusOr<int> RunPass() override;

 private:
  // Each returns whether the record moved.
  absl::StatusOr<bool> StartEvaluation(
      const store::v1::ContributionRecord& record);
  absl::StatusOr<bool> FinishEvaluation(
      const store::v1::ContributionRecord& record);
  absl::StatusOr<bool> Route(const store::v1::ContributionRecord& record);

  HubStore& store_;
  const BlobStore& blobs_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_GATE_STAGE_H_
