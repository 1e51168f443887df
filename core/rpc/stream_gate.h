#ifndef CAIRN_CORE_RPC_STREAM_GATE_H_
#define CAIRN_CORE_RPC_STREAM_GATE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <list>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace cairn {

// Admits a bounded number of streams that move bytes, of all callers and of
// each, because each costs buffers. Those that stand still are ended, and
// while others wait the longest-lived one is ended in turn: peers go on where
// they were, so that slow ones cannot keep others out. Thread-safe.
class StreamGate {
 public:
  struct Options {
    int streams_max = 64;
    // Of one caller.
    int caller_streams_max = 16;
    // A stream that moves nothing for so long is ended.
    absl::Duration idle_max = absl::Seconds(60);
    // What a refused peer is told to wait; longer the more are refused, up to
    // `retry_delay_max`.
    absl::Duration retry_delay = absl::Seconds(1);
    absl::Duration retry_delay_max = absl::Seconds(30);
    // How long a stream may live while others wait for its place.
    absl::Duration turn_max = absl::Minutes(2);
  };

  // A stream's place; given back when it is destroyed. The gate outlives it.
  class Pass {
   public:
    ~Pass();
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;
    // The stream moved something.
    void Moved();

   private:
    friend class StreamGate;
    Pass(StreamGate& gate, grpc::CallbackServerContext* context,
         std::string caller, absl::Duration now);

    StreamGate& gate_;
    grpc::CallbackServerContext* const context_;
    const std::string caller_;
    const absl::Duration admitted_at_;
    // Guarded by the gate's lock.
    absl::Duration moved_at_;
    bool is_ended_ = false;
    std::list<Pass*>::iterator place_;
  };

  // `clock` must outlive the gate.
  explicit StreamGate(const Options& options, Clock& clock = Clock::System());

  // RESOURCE_EXHAUSTED with a retry delay when no place is free, or `caller`
  // has all it may. `caller` tells callers apart, before they are known.
  // `context` must live as long as the pass; null for a stream that is never
  // ended.
  absl::StatusOr<std::unique_ptr<Pass>> Admit(
      grpc::CallbackServerContext* context, absl::string_view caller);

  // Cancels the streams that stood still for too long; call it every few
  // seconds. Returns how many.
  int EndIdle();

  int open_streams() const;

 private:
  absl::Status Refuse(absl::string_view why)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // If its turn is over.
  void EndOldest(absl::Duration now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  Clock& clock_;
  mutable Mutex mutex_;
  // The longest-lived first.
  std::list<Pass*> passes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> by_caller_ ABSL_GUARDED_BY(mutex_);
  // Since the last EndIdle(): how many want a place.
  int refused_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_STREAM_GATE_H_
