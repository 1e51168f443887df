#ifndef CAIRN_SERVER_OPS_RETENTION_STAGE_H_
#define CAIRN_SERVER_OPS_RETENTION_STAGE_H_

#include <string>

#include "absl/time/time.h"
#include "server/flow/hub_store.h"
#include "server/flow/stage.h"

namespace cairn {

// How long the hub keeps what nobody needs any more.
struct RetentionOptions {
  absl::Duration rejected = absl::Hours(24 * 7);  // bytes of refused updates
  absl::Duration requests = absl::Hours(24 * 7);  // answers to request ids
  absl::Duration interval = absl::Hours(1);       // between two passes
};

// Once an interval: forgets expired tokens and answers to old request ids, and
// lets go of the bytes of updates that were refused or taken back, so that the
// sweep of blobs removes them.
class RetentionStage : public Stage {
 public:
  // `store` must outlive the stage.
  RetentionStage(HubStore& store, RetentionOptions options);

  absl::string_view name() const override { return "retention"; }
  absl::Duration period() const override { return absl::Minutes(10); }
  absl::StatusOr<int> RunPass() override;

 private:
  absl::Status DropRejectedBytes();
  absl::Status ForgetOld();

  HubStore& store_;
  const RetentionOptions options_;
  absl::Duration next_pass_;  // monotonic
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_RETENTION_STAGE_H_
