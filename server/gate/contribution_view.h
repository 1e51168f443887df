#ifndef CAIRN_SERVER_GATE_CONTRIBUTION_VIEW_H_
#define CAIRN_SERVER_GATE_CONTRIBUTION_VIEW_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"
#include "server/flow/job_records.h"

namespace cairn {

// Who may see which figures.
enum class Figures {
  kExact,    // reviewers and above
  kRounded,  // everybody else: the verdict; its author also why, and what gain
             // the ledger lets be told
};

// A contribution as `viewer` (users/NAME) sees it: figures as given, what it
// waits for, and for its author the attempts left today.
absl::StatusOr<v1::Contribution> ViewContribution(
    const HubReader& reader, const WorkerPresence& workers,
    const store::v1::ContributionRecord& record, Figures figures,
    absl::string_view viewer, absl::Time now);

// A batch with what it waits for.
absl::StatusOr<v1::Batch> ViewBatch(const HubReader& reader,
                                    const WorkerPresence& workers,
                                    const store::v1::BatchRecord& record,
                                    Figures figures);

// Attempts that a user has left on a model on the UTC day of `now`: its own, or
// those of its organisation when they are fewer.
absl::StatusOr<int32_t> AttemptsLeft(const HubReader& reader,
                                     absl::string_view user,
                                     absl::string_view model,
                                     const v1::Policy& policy, absl::Time now);
// Charges one attempt to the user and to its organisation.
absl::Status ChargeAttempt(HubTransaction& transaction, absl::string_view user,
                           absl::string_view model);

}  // namespace cairn

#endif  // CAIRN_SERVER_GATE_CONTRIBUTION_VIEW_H_
