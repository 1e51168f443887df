#ifndef CAIRN_SERVER_FLOW_CONTRIBUTION_STATE_H_
#define CAIRN_SERVER_FLOW_CONTRIBUTION_STATE_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/store/v1/records.pb.h"

namespace cairn {

// A legal move of a state machine. `from` is STATE_UNSPECIFIED (0) for the
// state that a new record starts in.
template <typename State>
struct StateMove {
  State from;
  State to;
};

// The one table of legal moves. The store refuses any other (HubTransaction::
// Put), so no pass, handler or retry can take a record along another way.
absl::Span<const StateMove<v1::Contribution::State>> ContributionMoves();
absl::Span<const StateMove<v1::Batch::State>> BatchMoves();
absl::Span<const StateMove<store::v1::JobRecord::State>> JobMoves();
absl::Span<const StateMove<v1::Suite::State>> SuiteMoves();

// True when the table holds the move. Staying is always legal, except for a
// record that does not exist yet.
bool IsLegalMove(v1::Contribution::State from, v1::Contribution::State to);
bool IsLegalMove(v1::Batch::State from, v1::Batch::State to);
bool IsLegalMove(store::v1::JobRecord::State from,
                 store::v1::JobRecord::State to);
bool IsLegalMove(v1::Suite::State from, v1::Suite::State to);

// Not yet decided for good: RECEIVED to BATCHED, and RELEASED.
bool IsLive(v1::Contribution::State state);
// Before a batch took it: its author may withdraw it.
bool IsBeforeBatch(v1::Contribution::State state);
// PUBLISHED or FAILED.
bool IsOver(v1::Batch::State state);
// DONE or FAILED.
bool IsOver(store::v1::JobRecord::State state);

// Sets state and update time. FAILED_PRECONDITION naming the resource, its
// state and the one that was wanted, when the table does not hold the move.
absl::Status Move(store::v1::ContributionRecord& record,
                  v1::Contribution::State to, absl::Time now);
absl::Status Move(store::v1::BatchRecord& record, v1::Batch::State to,
                  absl::Time now);
absl::Status Move(store::v1::JobRecord& record, store::v1::JobRecord::State to,
                  absl::Time now);
absl::Status Move(store::v1::SuiteRecord& record, v1::Suite::State to);

// Between absl::Time and the protocol's timestamps.
google::protobuf::Timestamp ToTimestamp(absl::Time time);
absl::Time FromTimestamp(const google::protobuf::Timestamp& time);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_CONTRIBUTION_STATE_H_
