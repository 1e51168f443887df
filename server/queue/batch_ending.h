#ifndef CAIRN_SERVER_QUEUE_BATCH_ENDING_H_
#define CAIRN_SERVER_QUEUE_BATCH_ENDING_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// Ways in which members leave a batch. All work within the transaction that
// also writes the batch; a member that is no longer BATCHED in it is left as
// it is, so that repeating does no harm.

// What members are told of an audit: no ledger counts answers of that split, so
// that it gives none.
v1::Reason AuditFailed();

// Back to the queue, at its old place. kHeld: nobody takes it before a
// maintainer looked.
enum class Requeue { kFree, kHeld };
absl::Status ReturnToQueue(HubTransaction& transaction,
                           const store::v1::BatchRecord& batch,
                           absl::string_view contribution, Requeue how,
                           const v1::Reason& why);
// To people, with reasons.
absl::Status SendToReview(HubTransaction& transaction,
                          const store::v1::BatchRecord& batch,
                          absl::string_view contribution,
                          const std::vector<v1::Reason>& reasons);
// Refused as BATCH_CULPRIT, for these reasons.
absl::Status RejectCulprit(HubTransaction& transaction,
                           const store::v1::BatchRecord& batch,
                           absl::string_view contribution,
                           const std::vector<v1::Reason>& reasons);
absl::Status MarkReleased(HubTransaction& transaction,
                          const store::v1::BatchRecord& batch,
                          absl::string_view contribution,
                          absl::string_view release);
absl::Status MarkReverted(HubTransaction& transaction,
                          const store::v1::BatchRecord& batch,
                          absl::string_view contribution,
                          absl::string_view release);

// The batch ends without a release: FAILED with reasons, and an event.
absl::Status FailBatch(HubTransaction& transaction,
                       store::v1::BatchRecord& batch,
                       const std::vector<v1::Reason>& reasons);
// The batch became a release.
absl::Status FinishBatch(HubTransaction& transaction,
                         store::v1::BatchRecord& batch,
                         absl::string_view release);

}  // namespace cairn

#endif  // CAIRN_SERVER_QUEUE_BATCH_ENDING_H_
