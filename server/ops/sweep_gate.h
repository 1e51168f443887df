#ifndef CAIRN_SERVER_OPS_SWEEP_GATE_H_
#define CAIRN_SERVER_OPS_SWEEP_GATE_H_

#include "core/base/mutex.h"

namespace cairn {

// Keeps sweeps away from those who need every blob that was named at a moment
// to stay until they are done. Thread-safe.
class SweepGate {
 public:
  // Keeps sweeps from beginning while it lives.
  class Hold {
   public:
    // Waits for a sweep under way to end. `gate` must outlive it.
    explicit Hold(SweepGate& gate) : gate_(gate) {
      MutexLock lock(gate_.mutex_);
      ++gate_.holds_;
      while (gate_.is_sweeping_) gate_.ended_.Wait(gate_.mutex_);
    }
    ~Hold() {
      MutexLock lock(gate_.mutex_);
      --gate_.holds_;
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;

   private:
    SweepGate& gate_;
  };

  // False while somebody holds the gate; else EndSweep() must follow.
  [[nodiscard]] bool TryBeginSweep() {
    MutexLock lock(mutex_);
    if (holds_ > 0) return false;
    is_sweeping_ = true;
    return true;
  }
  void EndSweep() {
    MutexLock lock(mutex_);
    is_sweeping_ = false;
    ended_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar ended_;
  int holds_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_sweeping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_SWEEP_GATE_H_
