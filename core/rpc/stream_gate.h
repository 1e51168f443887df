#ifndef CAIRN_CORE_RPC_STREAM_GATE_H_
#define CAIRN_CORE_RPC_STREAM_GATE_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <list>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace cairn {

// Admits a bounded number of streams that move bytes, because each costs
// buffers, and ends those that stand still, so that a peer which neither
// sends nor reads cannot keep others out. Thread-safe.
class StreamGate {
 public:
  struct Options {
    int streams_max = 64;
    // A stream that moves nothing for so long is ended.
    absl::Duration idle_max = absl::Seconds(60);
    // What a refused peer is told to wait.
    absl::Duration retry_delay = absl::Seconds(1);
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
         absl::Duration now);

    StreamGate& gate_;
    grpc::CallbackServerContext* const context_;
    absl::Duration moved_at_;  // guarded by the gate's lock
    std::list<Pass*>::iterator place_;
  };

  // `clock` must outlive the gate.
  explicit StreamGate(const Options& options, Clock& clock = Clock::System());

  // RESOURCE_EXHAUSTED with a retry delay when no place is free. `context`
  // must live as long as the pass; null for a stream that is never ended.
  absl::StatusOr<std::unique_ptr<Pass>> Admit(
      grpc::CallbackServerContext* context);

  // Cancels the streams that stood still for too long; call it every few
  // seconds. Returns how many.
  int EndIdle();

  int open_streams() const;

 private:
  const Options options_;
  Clock& clock_;
  mutable Mutex mutex_;
  std::list<Pass*> passes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_STREAM_GATE_H_
