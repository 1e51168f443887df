#include "core/base/ordered_work.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

TEST(OrderedWorkTest, TakesInOrderWhatWasMadeByTheSameWorker) {
  for (const int threads : {0, 1, 3, 20}) {
    std::vector<int64_t> made(20, -1);
    std::vector<int64_t> taken;
    const absl::Status status = RunOrdered(
        threads, 15,
        [&](int worker, int64_t piece) {
          made.at(static_cast<size_t>(worker)) = piece;
          return absl::OkStatus();
        },
        [&](int worker, int64_t piece) {
          EXPECT_EQ(made.at(static_cast<size_t>(worker)), piece);
          taken.push_back(piece);
          return absl::OkStatus();
        });
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_EQ(taken.size(), 15U);
    for (size_t i = 0; i < taken.size(); ++i) {
      EXPECT_EQ(taken[i], static_cast<int64_t>(i));
    }
  }
}

TEST(OrderedWorkTest, TellsTheFirstFailureAndTakesNothingAfterIt) {
  const auto fail_at = [](int64_t at) {
    return [at](int, int64_t piece) {
      return piece >= at ? absl::AbortedError(absl::StrCat(piece))
                         : absl::OkStatus();
    };
  };
  for (const int threads : {1, 4}) {
    std::atomic<int> taken = 0;
    const auto count = [&](int, int64_t) {
      ++taken;
      return absl::OkStatus();
    };
    EXPECT_EQ(RunOrdered(threads, 100, fail_at(7), count).message(), "7");
    EXPECT_EQ(taken, 7);
    EXPECT_EQ(RunOrdered(threads, 100, count, fail_at(7)).message(), "7");
  }
}

}  // namespace
}  // namespace cairn
