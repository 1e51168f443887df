#include "merge/engine/lane_runner.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"

namespace cairn {
namespace {

class LaneRunnerTest : public ::testing::Test {
 protected:
  // Takes `steps` steps, or fails in the last.
  class FakeLane : public Lane {
   public:
    FakeLane(LaneRunnerTest& test, int64_t piece, int steps, bool fails)
        : test_(test), piece_(piece), left_(steps), fails_(fails) {
      MutexLock lock(test_.mutex_);
      ++test_.under_way_;
      test_.most_ = std::max(test_.most_, test_.under_way_);
      test_.started_.push_back(piece);
    }
    ~FakeLane() override {
      MutexLock lock(test_.mutex_);
      --test_.under_way_;
    }

    absl::StatusOr<bool> Step() override {
      {
        MutexLock lock(test_.mutex_);
        int& beside = test_.beside_[piece_];
        beside = std::max(beside, test_.under_way_ - 1);
      }
      if (--left_ == 0 && fails_) {
        return absl::InternalError(absl::StrCat("piece ", piece_));
      }
      return left_ > 0;
    }
    TensorStream& stream() override { return stream_; }
    absl::Status Finish() override {
      EXPECT_EQ(stream_.Finish(), Digest::Of(""));
      MutexLock lock(test_.mutex_);
      test_.finished_.push_back(piece_);
      return absl::OkStatus();
    }

   private:
    LaneRunnerTest& test_;
    const int64_t piece_;
    int left_;
    const bool fails_;
    TensorStream stream_{test_.disk_, {}};
  };

  LaneWork Work(int threads, int lanes, std::vector<int> steps,
                std::vector<int64_t> failing = {}) {
    LaneWork work = {.threads = threads,
                     .lanes = lanes,
                     .pieces = static_cast<int64_t>(steps.size()),
                     .start = nullptr,
                     .is_alone = nullptr};
    work.start = [this, steps, failing](int, int64_t piece)
        -> absl::StatusOr<std::unique_ptr<Lane>> {
      const bool fails =
          std::find(failing.begin(), failing.end(), piece) != failing.end();
      const int count = steps[static_cast<size_t>(piece)];
      if (count == 0) return nullptr;
      return std::make_unique<FakeLane>(*this, piece, count, fails);
    };
    return work;
  }

  WriteBehind disk_{1, 2 * WriteBehind::kPage};
  Mutex mutex_;
  int under_way_ = 0, most_ = 0;
  std::map<int64_t, int> beside_;  // most that were under way with a piece
  std::vector<int64_t> started_, finished_;
};

TEST_F(LaneRunnerTest, RunsAsManyAtOnceAsThereAreLanes) {
  EXPECT_TRUE(RunLanes(Work(1, 3, {5, 5, 5, 1, 9, 2, 0, 4})).ok());
  EXPECT_EQ(started_, (std::vector<int64_t>{0, 1, 2, 3, 4, 5, 7}));
  EXPECT_EQ(finished_.size(), 7u);
  EXPECT_EQ(most_, 3);
}

TEST_F(LaneRunnerTest, RunsAllPiecesOnSeveralThreads) {
  EXPECT_TRUE(RunLanes(Work(3, 2, std::vector<int>(100, 3))).ok());
  std::sort(finished_.begin(), finished_.end());
  ASSERT_EQ(finished_.size(), 100u);
  EXPECT_EQ(finished_.front(), 0);
  EXPECT_EQ(finished_.back(), 99);
  EXPECT_LE(most_, 6);
}

TEST_F(LaneRunnerTest, LeavesALargePieceAlone) {
  LaneWork work = Work(1, 4, {2, 2, 9, 2, 2});
  work.is_alone = [](int64_t piece) { return piece == 2; };
  EXPECT_TRUE(RunLanes(work).ok());
  EXPECT_EQ(finished_.size(), 5u);
  EXPECT_EQ(beside_[2], 0);
  EXPECT_EQ(beside_[0], 1);
}

TEST_F(LaneRunnerTest, ReturnsTheFailureOfTheSmallestPiece) {
  // Piece 3 fails first, but piece 1 was under way by then.
  const absl::Status status =
      RunLanes(Work(1, 4, {9, 7, 9, 1, 9, 9}, {1, 3, 4}));
  EXPECT_EQ(status.message(), "piece 1");
  EXPECT_EQ(started_.size(), 4u);
  EXPECT_EQ(finished_, (std::vector<int64_t>{0, 2}));
}

}  // namespace
}  // namespace cairn
