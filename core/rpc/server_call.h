#ifndef CAIRN_CORE_RPC_SERVER_CALL_H_
#define CAIRN_CORE_RPC_SERVER_CALL_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "core/base/thread_pool.h"

namespace cairn {

// The call's `authorization` metadata ("Bearer ..."); empty when there is
// none. When there are several values they are joined, which no authority
// accepts.
std::string AuthorizationOf(const grpc::CallbackServerContext& context);

// What a call gets when the pool's queue is full: RESOURCE_EXHAUSTED with a
// delay after which to try again.
absl::Status Overloaded();

// Runs `task` on the pool; `refused` runs here instead when it does not fit.
void RunOn(ThreadPool& pool, absl::AnyInvocable<void()> task,
           absl::AnyInvocable<void(absl::Status)> refused);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_CALL_H_
