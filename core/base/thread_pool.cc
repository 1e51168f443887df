#include "core/base/thread_pool.h"

#include <utility>

#include "core/base/log.h"

namespace cairn {

ThreadPool::ThreadPool(Options options) : queue_max_(options.queue_max) {
  CAIRN_CHECK(options.threads > 0);
  threads_.reserve(static_cast<size_t>(options.threads));
  for (int i = 0; i < options.threads; ++i) {
    threads_.emplace_back([this] { Run(); });
  }
}

ThreadPool::~ThreadPool() { Stop(); }

bool ThreadPool::Submit(absl::AnyInvocable<void()> task) {
  {
    MutexLock lock(mutex_);
    if (is_stopped_ || queue_.size() >= queue_max_) return false;
    queue_.push_back(std::move(task));
  }
  wake_.NotifyOne();
  return true;
}

void ThreadPool::Stop() {
  {
    MutexLock lock(mutex_);
    is_stopped_ = true;
  }
  wake_.NotifyAll();
  threads_.clear();
}

void ThreadPool::Run() {
  while (true) {
    absl::AnyInvocable<void()> task;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !is_stopped_) wake_.Wait(mutex_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace cairn
