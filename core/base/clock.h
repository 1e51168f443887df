#ifndef CAIRN_CORE_BASE_CLOCK_H_
#define CAIRN_CORE_BASE_CLOCK_H_

#include "absl/time/time.h"
#include "core/base/mutex.h"

namespace cairn {

// Time as the hub sees it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Wall time, for records.
  virtual absl::Time Now() = 0;
  // Time since an arbitrary moment; never goes back. For leases and delays.
  virtual absl::Duration Monotonic() = 0;

  // The machine's clock; lives as long as the process.
  static Clock& System();
};

// A clock that tests move by hand.
class FakeClock : public Clock {
 public:
  explicit FakeClock(absl::Time now = absl::UnixEpoch()) : now_(now) {}
  absl::Time Now() override {
    MutexLock lock(mutex_);
    return now_;
  }
  absl::Duration Monotonic() override {
    MutexLock lock(mutex_);
    return elapsed_;
  }
  void Advance(absl::Duration by) {
    MutexLock lock(mutex_);
    now_ += by;
    elapsed_ += by;
  }

 private:
  Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_);
  absl::Duration elapsed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_CLOCK_H_
