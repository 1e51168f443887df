#include "merge/tensor/compute.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

TEST(ParallelForTest, RunsEveryPieceOnce) {
  for (int threads : {1, 2, 5}) {
    std::vector<std::atomic<int>> runs(37);
    ASSERT_TRUE(ParallelFor(threads, 37, [&](int64_t i) {
                  ++runs[static_cast<size_t>(i)];
                  return absl::OkStatus();
                }).ok());
    for (const std::atomic<int>& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST(ParallelForTest, NothingToDoIsSuccess) {
  EXPECT_TRUE(ParallelFor(4, 0, [](int64_t) {
                return absl::InternalError("ran");
              }).ok());
}

TEST(ParallelForTest, ReportsTheFirstFailureWhateverTheThreads) {
  for (int threads : {1, 2, 8}) {
    absl::Status status = ParallelFor(threads, 100, [](int64_t i) {
      return i >= 7 ? absl::InternalError(absl::StrCat("piece ", i))
                    : absl::OkStatus();
    });
    EXPECT_EQ(status.message(), "piece 7");
  }
}

TEST(ParallelForTest, OperatorsInsideUseOneThread) {
  ASSERT_TRUE(ParallelFor(3, 6, [](int64_t) {
                return at::get_num_threads() == 1
                           ? absl::OkStatus()
                           : absl::InternalError("several threads");
              }).ok());
}

TEST(AvailableProcessorsTest, IsPositive) {
  EXPECT_GE(AvailableProcessors(), 1);
}

}  // namespace
}  // namespace cairn
