#include "server/ops/stage_runner.h"

#include <atomic>

#include "gtest/gtest.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

// Answers passes from a plan and counts them.
class FakeStage : public Stage {
 public:
  absl::string_view name() const override { return "fake"; }
  absl::Duration period() const override { return absl::Hours(1); }
  absl::StatusOr<int> RunPass() override {
    ++passes_;
    if (failures_left_ > 0) {
      --failures_left_;
      return absl::UnavailableError("planned");
    }
    if (work_left_ > 0) {
      --work_left_;
      return 1;
    }
    return 0;
  }

  std::atomic<int> passes_ = 0;
  std::atomic<int> work_left_ = 0;
  std::atomic<int> failures_left_ = 0;
};

class StageRunnerTest : public ::testing::Test {
 protected:
  void WaitFor(const std::function<bool()>& done) {
    absl::Time end = absl::Now() + absl::Seconds(20);
    while (!done() && absl::Now() < end) absl::SleepFor(absl::Milliseconds(1));
    EXPECT_TRUE(done());
  }
  void Commit() {
    ASSERT_TRUE(store_
                    .Transact([](HubTransaction& txn) {
                      return txn.NextNumber("test").status();
                    })
                    .ok());
  }

  MemoryMetadataStore metadata_;
  HubStore store_{metadata_, Clock::System()};
  FakeStage stage_;
  StageRunner runner_{store_};
};

TEST_F(StageRunnerTest, RunsAgainWhileSomethingMoves) {
  stage_.work_left_ = 5;
  runner_.Add(stage_);
  runner_.Start();
  WaitFor([&] { return stage_.passes_ >= 6; });
  runner_.Stop();
  EXPECT_EQ(runner_.tallies()[0]->moved, 5);
}

TEST_F(StageRunnerTest, CommitWakesAStageThatWaits) {
  runner_.Add(stage_);
  runner_.Start();
  WaitFor([&] { return stage_.passes_ >= 1; });
  stage_.work_left_ = 1;
  Commit();
  WaitFor([&] { return runner_.tallies()[0]->moved == 1; });
}

TEST_F(StageRunnerTest, FailingStageIsTriedAgainAndDoesNotSpin) {
  stage_.failures_left_ = 2;
  stage_.work_left_ = 1;
  runner_.Add(stage_);
  runner_.Start();
  for (int i = 0; i < 100; ++i) Commit();
  EXPECT_LE(stage_.passes_, 3);
  WaitFor([&] { return runner_.tallies()[0]->moved == 1; });
  EXPECT_EQ(runner_.tallies()[0]->failures, 2);
}

TEST_F(StageRunnerTest, StopEndsAStageThatWaitsForItsPeriod) {
  runner_.Add(stage_);
  runner_.Start();
  WaitFor([&] { return stage_.passes_ >= 1; });
  absl::Time begin = absl::Now();
  runner_.Stop();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(10));
}

}  // namespace
}  // namespace cairn
