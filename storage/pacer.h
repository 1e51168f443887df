#ifndef CAIRN_STORAGE_PACER_H_
#define CAIRN_STORAGE_PACER_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"
#include "core/base/clock.h"

namespace cairn {

// Keeps background work to so many bytes a second on average. A piece that
// cannot be divided may go over; the pause after it is the longer. Not
// thread-safe.
class Pacer {
 public:
  // `clock` must outlive it. A rate of 0 lets nothing through.
  Pacer(Clock& clock, int64_t bytes_per_second)
      : clock_(clock),
        bytes_per_second_(bytes_per_second),
        free_at_(clock.Monotonic() - kBurst) {}

  bool IsFree() const {
    return bytes_per_second_ > 0 && clock_.Monotonic() >= free_at_;
  }
  void Spend(int64_t bytes) {
    free_at_ = std::max(free_at_, clock_.Monotonic() - kBurst) +
               absl::Seconds(static_cast<double>(bytes) /
                             static_cast<double>(bytes_per_second_));
  }

 private:
  // What was not spent in so long may be spent at once.
  static constexpr absl::Duration kBurst = absl::Seconds(2);

  Clock& clock_;
  const int64_t bytes_per_second_;
  absl::Duration free_at_;  // monotonic
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_PACER_H_
