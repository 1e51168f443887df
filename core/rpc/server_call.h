#ifndef CAIRN_CORE_RPC_SERVER_CALL_H_
#define CAIRN_CORE_RPC_SERVER_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/base/thread_pool.h"

namespace cairn {

// The call's `authorization` metadata ("Bearer ..."); empty when there is
// none. When there are several values they are joined, which no authority
// accepts.
std::string AuthorizationOf(const grpc::CallbackServerContext& context);

// Tells callers apart before they are known: by the token, or the address of
// the anonymous.
std::string CallerKey(const grpc::CallbackServerContext& context);

// What a call gets when the pool's queue is full: RESOURCE_EXHAUSTED with a
// delay after which to try again.
absl::Status Overloaded();

// Orders the steps of a call that gRPC hands from thread to thread: Give()
// before an operation is started, Take() in its completion. gRPC orders them
// anyway; this says so where a reader, and ThreadSanitizer, can see it.
class Baton {
 public:
  void Give() { given_.store(true, std::memory_order_release); }
  void Take() { (void)given_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> given_ = false;
};

// Runs `task` on the pool; `refused` runs here instead when it does not fit.
void RunOn(ThreadPool& pool, absl::AnyInvocable<void()> task,
           absl::AnyInvocable<void(absl::Status)> refused);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_CALL_H_
