#ifndef CAIRN_SERVER_FLOW_DELTA_RECORDS_H_
#define CAIRN_SERVER_FLOW_DELTA_RECORDS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/hub_store.h"

namespace cairn {

// "models/M/releases/TO/deltas/FROM", of two releases of a model by their full
// names.
std::string DeltaName(absl::string_view to, absl::string_view from);

// The record of the delta from one release to another of the same model. When
// there is none, it is made, with a job for a worker, which is told of the
// low-rank updates whose merges lead from one to the other.
absl::StatusOr<store::v1::DeltaRecord> AskForDelta(
    HubTransaction& transaction, const store::v1::ReleaseRecord& from,
    const store::v1::ReleaseRecord& to);

// Asks for the deltas to a release that is published in this transaction that
// most of those who pull it will want: from its parent, from its ancestors
// two, four and eight steps back, and from what tags name.
absl::Status PlanDeltas(HubTransaction& transaction,
                        const store::v1::ReleaseRecord& to);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_DELTA_RECORDS_H_
