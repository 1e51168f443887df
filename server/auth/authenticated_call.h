#ifndef CAIRN_SERVER_AUTH_AUTHENTICATED_CALL_H_
#define CAIRN_SERVER_AUTH_AUTHENTICATED_CALL_H_

#include <utility>

#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/rpc/server_call.h"
#include "core/rpc/server_unary.h"
#include "server/auth/token_authority.h"
#include "server/flow/caller.h"

namespace cairn {

// What the handlers of the hub's services share. All of it outlives the
// server they are registered with.
struct CallEnvironment {
  const TokenAuthority& tokens;
  ThreadPool& pool;
};

// Answers a unary call with what `fn(const Caller&, const Request&)`, a
// StatusOr<Response>, returns. It runs on the pool once the caller's token was
// looked up; what the caller may do is for `fn` to decide.
template <typename Request, typename Response, typename Fn>
grpc::ServerUnaryReactor* HandleCall(grpc::CallbackServerContext* context,
                                     const CallEnvironment& environment,
                                     const Request* request, Response* response,
                                     Fn fn) {
  return HandleUnary(
      context, environment.pool, request, response,
      [context, &tokens = environment.tokens, fn = std::move(fn)](
          const Request& call) mutable -> absl::StatusOr<Response> {
        auto caller = tokens.Identify(AuthorizationOf(*context));
        if (!caller.ok()) return caller.status();
        return fn(*caller, call);
      });
}

}  // namespace cairn

#endif  // CAIRN_SERVER_AUTH_AUTHENTICATED_CALL_H_
