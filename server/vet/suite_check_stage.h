#ifndef CAIRN_SERVER_VET_SUITE_CHECK_STAGE_H_
#define CAIRN_SERVER_VET_SUITE_CHECK_STAGE_H_

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "storage/blob_store.h"

namespace cairn {

// CHECKING -> ACTIVE once the head was evaluated on all splits of a suite's
// new version, which retires the one before; CHECKING -> RETIRED, with the
// reason, when the suite cannot be evaluated.
class SuiteCheckStage : public Stage {
 public:
  // `store` and `blobs` must outlive the stage.
  SuiteCheckStage(HubStore& store, const BlobStore& blobs)
      : store_(store), blobs_(blobs) {}

  absl::string_view name() const override { return "suite_check"; }
  absl::StatusOr<int> RunPass() override;

 private:
  absl::StatusOr<bool> Start(const store::v1::SuiteRecord& record);
  absl::StatusOr<bool> Finish(const store::v1::SuiteRecord& record);

  HubStore& store_;
  const BlobStore& blobs_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_SUITE_CHECK_STAGE_H_
