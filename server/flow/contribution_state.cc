#include "server/flow/contribution_state.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::SuiteRecord;
using v1::Batch;
using v1::Contribution;
using v1::Suite;

constexpr StateMove<Contribution::State> kContributionMoves[] = {
    {Contribution::STATE_UNSPECIFIED, Contribution::RECEIVED},
    // Static and weight screens.
    {Contribution::RECEIVED, Contribution::SCREENED},
    {Contribution::RECEIVED, Contribution::REJECTED},
    // Paired evaluation on the gate split.
    {Contribution::SCREENED, Contribution::EVALUATED},
    {Contribution::SCREENED, Contribution::REJECTED},
    // Policy: straight to the queue, or to people.
    {Contribution::EVALUATED, Contribution::QUEUED},
    {Contribution::EVALUATED, Contribution::NEEDS_REVIEW},
    {Contribution::NEEDS_REVIEW, Contribution::QUEUED},
    {Contribution::NEEDS_REVIEW, Contribution::REJECTED},
    // A batch takes it, and what becomes of it there.
    {Contribution::QUEUED, Contribution::BATCHED},
    {Contribution::BATCHED, Contribution::RELEASED},
    {Contribution::BATCHED, Contribution::REJECTED},
    {Contribution::BATCHED, Contribution::QUEUED},
    {Contribution::BATCHED, Contribution::NEEDS_REVIEW},
    // Its author takes it back, or brings a new revision.
    {Contribution::RECEIVED, Contribution::WITHDRAWN},
    {Contribution::SCREENED, Contribution::WITHDRAWN},
    {Contribution::EVALUATED, Contribution::WITHDRAWN},
    {Contribution::NEEDS_REVIEW, Contribution::WITHDRAWN},
    {Contribution::QUEUED, Contribution::WITHDRAWN},
    {Contribution::RECEIVED, Contribution::SUPERSEDED},
    {Contribution::SCREENED, Contribution::SUPERSEDED},
    {Contribution::EVALUATED, Contribution::SUPERSEDED},
    {Contribution::NEEDS_REVIEW, Contribution::SUPERSEDED},
    {Contribution::QUEUED, Contribution::SUPERSEDED},
    // A maintainer takes it out of the line.
    {Contribution::RELEASED, Contribution::REVERTED},
};

constexpr StateMove<Batch::State> kBatchMoves[] = {
    {Batch::STATE_UNSPECIFIED, Batch::FORMING},
    {Batch::FORMING, Batch::MERGING},
    {Batch::FORMING, Batch::FAILED},
    {Batch::MERGING, Batch::EVALUATING},
    {Batch::MERGING, Batch::FAILED},
    {Batch::EVALUATING, Batch::BISECTING},
    {Batch::EVALUATING, Batch::PUBLISHED},
    {Batch::EVALUATING, Batch::FAILED},
    // Bisection settled on a set: it is audited like any candidate.
    {Batch::BISECTING, Batch::EVALUATING},
    {Batch::BISECTING, Batch::FAILED},
    // The head moved while the batch ran: it merges again.
    {Batch::EVALUATING, Batch::MERGING},
};

constexpr StateMove<JobRecord::State> kJobMoves[] = {
    {JobRecord::STATE_UNSPECIFIED, JobRecord::PENDING},
    {JobRecord::PENDING, JobRecord::LEASED},
    // The lease was lost.
    {JobRecord::LEASED, JobRecord::PENDING},
    {JobRecord::LEASED, JobRecord::DONE},
    {JobRecord::LEASED, JobRecord::FAILED},
    // No longer wanted.
    {JobRecord::PENDING, JobRecord::FAILED},
};

constexpr StateMove<Suite::State> kSuiteMoves[] = {
    {Suite::STATE_UNSPECIFIED, Suite::CHECKING},
    {Suite::CHECKING, Suite::ACTIVE},
    {Suite::ACTIVE, Suite::RETIRED},
    // Replaced before it was ever used, or it cannot be evaluated.
    {Suite::CHECKING, Suite::RETIRED},
};

template <typename State>
bool Holds(absl::Span<const StateMove<State>> moves, State from, State to) {
  if (from == to) return static_cast<int>(from) != 0;
  return std::any_of(moves.begin(), moves.end(), [&](const auto& move) {
    return move.from == from && move.to == to;
  });
}

absl::Status IllegalMove(const std::string& name, const std::string& from,
                         const std::string& to) {
  return absl::FailedPreconditionError(
      absl::StrCat(name, " is ", from, " and cannot become ", to));
}

}  // namespace

absl::Span<const StateMove<Contribution::State>> ContributionMoves() {
  return kContributionMoves;
}
absl::Span<const StateMove<Batch::State>> BatchMoves() { return kBatchMoves; }
absl::Span<const StateMove<JobRecord::State>> JobMoves() { return kJobMoves; }
absl::Span<const StateMove<Suite::State>> SuiteMoves() { return kSuiteMoves; }

bool IsLegalMove(Contribution::State from, Contribution::State to) {
  return Holds(ContributionMoves(), from, to);
}
bool IsLegalMove(Batch::State from, Batch::State to) {
  return Holds(BatchMoves(), from, to);
}
bool IsLegalMove(JobRecord::State from, JobRecord::State to) {
  return Holds(JobMoves(), from, to);
}
bool IsLegalMove(Suite::State from, Suite::State to) {
  return Holds(SuiteMoves(), from, to);
}

bool IsLive(Contribution::State state) {
  return IsBeforeBatch(state) || state == Contribution::BATCHED ||
         state == Contribution::RELEASED;
}

bool IsBeforeBatch(Contribution::State state) {
  return state == Contribution::RECEIVED || state == Contribution::SCREENED ||
         state == Contribution::EVALUATED ||
         state == Contribution::NEEDS_REVIEW || state == Contribution::QUEUED;
}

bool IsOver(Batch::State state) {
  return state == Batch::PUBLISHED || state == Batch::FAILED;
}

bool IsOver(JobRecord::State state) {
  return state == JobRecord::DONE || state == JobRecord::FAILED;
}

absl::Status Move(ContributionRecord& record, Contribution::State to,
                  absl::Time now) {
  auto& contribution = *record.mutable_contribution();
  if (!IsLegalMove(contribution.state(), to)) {
    return IllegalMove(contribution.name(),
                       Contribution::State_Name(contribution.state()),
                       Contribution::State_Name(to));
  }
  contribution.set_state(to);
  *contribution.mutable_update_time() = ToTimestamp(now);
  return absl::OkStatus();
}

absl::Status Move(BatchRecord& record, Batch::State to, absl::Time now) {
  auto& batch = *record.mutable_batch();
  if (!IsLegalMove(batch.state(), to)) {
    return IllegalMove(batch.name(), Batch::State_Name(batch.state()),
                       Batch::State_Name(to));
  }
  batch.set_state(to);
  *batch.mutable_update_time() = ToTimestamp(now);
  return absl::OkStatus();
}

absl::Status Move(JobRecord& record, JobRecord::State to, absl::Time now) {
  if (!IsLegalMove(record.state(), to)) {
    return IllegalMove(record.name(), JobRecord::State_Name(record.state()),
                       JobRecord::State_Name(to));
  }
  record.set_state(to);
  *record.mutable_update_time() = ToTimestamp(now);
  return absl::OkStatus();
}

absl::Status Move(SuiteRecord& record, Suite::State to) {
  auto& suite = *record.mutable_suite();
  if (!IsLegalMove(suite.state(), to)) {
    return IllegalMove(suite.name(), Suite::State_Name(suite.state()),
                       Suite::State_Name(to));
  }
  suite.set_state(to);
  return absl::OkStatus();
}

google::protobuf::Timestamp ToTimestamp(absl::Time time) {
  google::protobuf::Timestamp out;
  int64_t seconds = absl::ToUnixSeconds(time);
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(
      absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
  return out;
}

absl::Time FromTimestamp(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) +
         absl::Nanoseconds(time.nanos());
}

}  // namespace cairn
