#ifndef CAIRN_SERVER_VET_SCREEN_STAGE_H_
#define CAIRN_SERVER_VET_SCREEN_STAGE_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/flow/hub_store.h"
#include "server/flow/stage.h"
#include "server/vet/screen.h"
#include "server/vet/weight_screen.h"
#include "storage/blob_store.h"

namespace cairn {

// RECEIVED -> SCREENED or REJECTED: opens each update, runs the screens, and
// keeps its fingerprint and what the weight screens said.
class ScreenStage : public Stage {
 public:
  // `store` and `blobs` must outlive the stage.
  ScreenStage(HubStore& store, const BlobStore& blobs);

  absl::string_view name() const override { return "screen"; }
  absl::StatusOr<int> RunPass() override;

 private:
  // What was seen in one contribution.
  struct Outcome {
    std::vector<v1::Reason> reasons;  // against it
    std::vector<v1::Finding> findings;
    std::optional<store::v1::FingerprintRecord> fingerprint;
  };
  absl::StatusOr<Outcome> Inspect(
      const HubReader& reader,
      const store::v1::ContributionRecord& record) const;
  // Runs the screens of the weights; the update is sound.
  absl::Status InspectWeights(ScreenInput input, Outcome& outcome) const;
  absl::Status Commit(HubTransaction& transaction, const std::string& name,
                      const Outcome& outcome) const;

  HubStore& store_;
  const BlobStore& blobs_;
  const std::vector<std::unique_ptr<Screen>> file_screens_ = FileScreens();
  const std::vector<std::unique_ptr<Screen>> fingerprint_screens_ =
      FingerprintScreens();
  const std::vector<std::unique_ptr<WeightScreen>> weight_screens_ =
      AllWeightScreens();
};

}  // namespace cairn

#endif  // CAIRN_SERVER_VET_SCREEN_STAGE_H_
