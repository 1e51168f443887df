#include "server/flow/contribution_state.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/str_cat.h"
#include "server/flow/hub_store.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::SuiteRecord;

template <typename State>
bool Holds(absl::Span<const StateMove<State>> moves, int from, int to) {
  for (const auto& move : moves) {
    if (move.from == from && move.to == to) return true;
  }
  return from == to && from != 0;
}

template <typename Record>
void SetState(Record& record, int state);
template <>
void SetState(ContributionRecord& record, int state) {
  record.mutable_contribution()->set_name("models/m/contributions/c");
  record.mutable_contribution()->set_state(
      static_cast<v1::Contribution::State>(state));
}
template <>
void SetState(BatchRecord& record, int state) {
  record.mutable_batch()->set_name("models/m/batches/b");
  record.mutable_batch()->set_state(static_cast<v1::Batch::State>(state));
}
template <>
void SetState(JobRecord& record, int state) {
  record.set_name("jobs/j");
  record.set_state(static_cast<JobRecord::State>(state));
}
template <>
void SetState(SuiteRecord& record, int state) {
  record.mutable_suite()->set_name("models/m/suites/s");
  record.mutable_suite()->set_state(static_cast<v1::Suite::State>(state));
}

// A way from nothing to `state` along the table.
template <typename State>
std::vector<int> WayTo(absl::Span<const StateMove<State>> moves, int state) {
  std::vector<std::vector<int>> ways = {{0}};
  std::set<int> seen = {0};
  for (size_t i = 0; i < ways.size(); ++i) {
    if (ways[i].back() == state) return ways[i];
    for (const auto& move : moves) {
      if (move.from == ways[i].back() && seen.insert(move.to).second) {
        ways.push_back(ways[i]);
        ways.back().push_back(move.to);
      }
    }
  }
  return {};
}

// From every reachable state, writing any state succeeds exactly when the
// table holds the move, and a refused write changes nothing.
template <typename Record, typename State>
void CheckStore(absl::Span<const StateMove<State>> moves, int states) {
  for (int from = 0; from < states; ++from) {
    const std::vector<int> way = WayTo(moves, from);
    if (way.empty()) continue;
    for (int to = 1; to < states; ++to) {
      FakeClock clock;
      MemoryMetadataStore metadata;
      HubStore store(metadata, clock);
      Record record;
      auto put = [&](int state) {
        SetState(record, state);
        return store.Transact([&](HubTransaction& transaction) {
          Record copy = record;
          return transaction.Put(copy);
        });
      };
      for (size_t i = 1; i < way.size(); ++i) ASSERT_TRUE(put(way[i]).ok());
      EXPECT_EQ(put(to).ok(), Holds(moves, from, to)) << from << " -> " << to;
    }
  }
}

TEST(ContributionStateTest, StoreTakesContributionsAlongTheTableOnly) {
  CheckStore<ContributionRecord>(ContributionMoves(),
                                 v1::Contribution::State_ARRAYSIZE);
}
TEST(ContributionStateTest, StoreTakesBatchesAlongTheTableOnly) {
  CheckStore<BatchRecord>(BatchMoves(), v1::Batch::State_ARRAYSIZE);
}
TEST(ContributionStateTest, StoreTakesJobsAlongTheTableOnly) {
  CheckStore<JobRecord>(JobMoves(), JobRecord::State_ARRAYSIZE);
}
TEST(ContributionStateTest, StoreTakesSuitesAlongTheTableOnly) {
  CheckStore<SuiteRecord>(SuiteMoves(), v1::Suite::State_ARRAYSIZE);
}

TEST(ContributionStateTest, EveryStateIsReachable) {
  for (int state = 1; state < v1::Contribution::State_ARRAYSIZE; ++state) {
    EXPECT_FALSE(WayTo(ContributionMoves(), state).empty()) << state;
  }
  for (int state = 1; state < v1::Batch::State_ARRAYSIZE; ++state) {
    EXPECT_FALSE(WayTo(BatchMoves(), state).empty()) << state;
  }
}

TEST(ContributionStateTest, RejectedAndRevertedAreForGood) {
  for (auto end : {v1::Contribution::REJECTED, v1::Contribution::WITHDRAWN,
                   v1::Contribution::SUPERSEDED, v1::Contribution::REVERTED}) {
    for (int to = 1; to < v1::Contribution::State_ARRAYSIZE; ++to) {
      if (to == end) continue;
      EXPECT_FALSE(IsLegalMove(end, static_cast<v1::Contribution::State>(to)));
    }
  }
}

TEST(ContributionStateTest, IllegalMoveNamesResourceAndStates) {
  ContributionRecord record;
  SetState(record, v1::Contribution::RELEASED);
  const absl::Status moved =
      Move(record, v1::Contribution::QUEUED, absl::UnixEpoch());
  EXPECT_EQ(moved.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(moved.message(),
            "models/m/contributions/c is RELEASED and cannot become QUEUED");
  EXPECT_EQ(record.contribution().state(), v1::Contribution::RELEASED);
}

TEST(ContributionStateTest, TimestampsKeepNanoseconds) {
  for (absl::Time time : {absl::FromUnixNanos(1'234'567'890'123'456'789),
                          absl::FromUnixNanos(-1), absl::UnixEpoch()}) {
    EXPECT_EQ(FromTimestamp(ToTimestamp(time)), time);
    EXPECT_GE(ToTimestamp(time).nanos(), 0);
  }
}

}  // namespace
}  // namespace cairn
