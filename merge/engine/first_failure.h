#ifndef CAIRN_MERGE_ENGINE_FIRST_FAILURE_H_
#define CAIRN_MERGE_ENGINE_FIRST_FAILURE_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "core/base/mutex.h"

namespace cairn {

// The failure of the smallest piece of some work so far. Thread-safe.
class FirstFailure {
 public:
  void Note(int64_t piece, absl::Status status) {
    MutexLock lock(mutex_);
    if (status_.ok() || piece < piece_) {
      piece_ = piece;
      status_ = std::move(status);
    }
    is_set_.store(true, std::memory_order_relaxed);
  }
  bool is_set() const { return is_set_.load(std::memory_order_relaxed); }
  absl::Status Take() {
    MutexLock lock(mutex_);
    return std::move(status_);
  }

 private:
  std::atomic<bool> is_set_ = false;
  Mutex mutex_;
  int64_t piece_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_FIRST_FAILURE_H_
