#ifndef CAIRN_CORE_BASE_THREAD_POOL_H_
#define CAIRN_CORE_BASE_THREAD_POOL_H_

#include <cstddef>
#include <deque>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "core/base/mutex.h"

namespace cairn {

// A fixed number of threads that run tasks from one bounded queue, first in,
// first out. Made by composition roots. Thread-safe.
class ThreadPool {
 public:
  struct Options {
    int threads = 4;
    // Tasks that may wait; one more is refused.
    size_t queue_max = 256;
  };

  explicit ThreadPool(Options options);
  // As Stop().
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // Queues a task. False, and the task is not run, when the queue is full or
  // the pool was stopped.
  [[nodiscard]] bool Submit(absl::AnyInvocable<void()> task);
  // Refuses new tasks, runs what is queued and joins the threads. Must not be
  // called from a task.
  void Stop();

 private:
  void Run();

  const size_t queue_max_;
  Mutex mutex_;
  CondVar wake_;
  std::deque<absl::AnyInvocable<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_THREAD_POOL_H_
