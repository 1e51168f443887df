#ifndef CAIRN_SERVER_QUEUE_ATTRIBUTION_STEP_H_
#define CAIRN_SERVER_QUEUE_ATTRIBUTION_STEP_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// Beyond so many members the merge without each one is not measured.
inline constexpr int kLeaveOneOutMax = 16;

// Has a worker measure what the members of `merge`, the batch's merge that
// passed the gate, add: sets the batch's attribution_job, unless the policy does
// not ask or no suite has a search split.
absl::Status StartAttribution(HubTransaction& transaction,
                              const store::v1::LineStep& merge,
                              store::v1::BatchRecord& batch);

// True when there is nothing to wait for any more.
bool IsExplained(const store::v1::BatchRecord& batch);

// Writes what was measured into the batch; false while the job runs. A job
// that was given up holds nothing up: a note says why nothing was measured.
absl::StatusOr<bool> TakeAttribution(HubStore& store, const BlobStore& blobs,
                                     store::v1::BatchRecord batch);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_ATTRIBUTION_STEP_H_
