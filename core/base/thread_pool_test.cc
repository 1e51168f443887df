#include "core/base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace cairn {
namespace {

TEST(ThreadPoolTest, StopRunsWhatWasQueued) {
  std::atomic<int> ran = 0;
  ThreadPool pool({.threads = 2, .queue_max = 100});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(pool.Submit([&] { ++ran; }));
  pool.Stop();
  EXPECT_EQ(ran, 100);
}

TEST(ThreadPoolTest, RefusesWhatDoesNotFitInTheQueue) {
  ThreadPool pool({.threads = 1, .queue_max = 2});
  std::promise<void> started;
  std::promise<void> release;
  ASSERT_TRUE(pool.Submit([&] {
    started.set_value();
    release.get_future().wait();
  }));
  started.get_future().wait();
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_TRUE(pool.Submit([] {}));
  EXPECT_FALSE(pool.Submit([] {}));
  release.set_value();
}

TEST(ThreadPoolTest, RefusesAfterStop) {
  ThreadPool pool({.threads = 1, .queue_max = 2});
  pool.Stop();
  EXPECT_FALSE(pool.Submit([] {}));
}

TEST(ThreadPoolTest, TasksRunAtTheSameTimeOnSeveralThreads) {
  ThreadPool pool({.threads = 2, .queue_max = 4});
  std::promise<void> first;
  std::promise<void> second;
  ASSERT_TRUE(pool.Submit([&] {
    first.set_value();
    second.get_future().wait();
  }));
  ASSERT_TRUE(pool.Submit([&] {
    first.get_future().wait();
    second.set_value();
  }));
  pool.Stop();
}

}  // namespace
}  // namespace cairn
