#ifndef CAIRN_SERVER_VET_SCREEN_STAGE_H_
#define CAIRN_SERVER_VET_SCREEN_STAGE_H_

#include <memory>
#include <string>
#include <vector>

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "server/vet/screen.h"
#include "storage/blob_store.h"

namespace cairn {

// RECEIVED -> SCREENED or REJECTED: opens each update and runs the screens.
class ScreenStage : public Stage {
 public:
  // `store` and `blobs` must outlive the stage.
  ScreenStage(HubStore& store, const BlobStore& blobs,
              std::vector<std::unique_ptr<Screen>> screens = AllScreens());

  absl::string_view name() const override { return "screen"; }
  absl::StatusOr<int> RunPass() override;

 private:
  // What speaks against one contribution.
  absl::StatusOr<std::vector<v1::Reason>> Inspect(
      const HubReader& reader,
      const store::v1::ContributionRecord& record) const;

  HubStore& store_;
  const BlobStore& blobs_;
  const std::vector<std::unique_ptr<Screen>> screens_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_SCREEN_STAGE_H_
