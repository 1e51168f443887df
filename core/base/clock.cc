#include "core/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace cairn {
namespace {

class SystemClock : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration Monotonic() override {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace

Clock& Clock::System() {
  static SystemClock* const kClock = new SystemClock;
  return *kClock;
}

}  // namespace cairn
