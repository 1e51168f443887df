#ifndef CAIRN_CORE_RPC_SERVER_UNARY_H_
#define CAIRN_CORE_RPC_SERVER_UNARY_H_

#include <grpcpp/alarm.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/base/thread_pool.h"
#include "core/rpc/grpc_status.h"
#include "core/rpc/server_call.h"

namespace cairn {

// Answers a unary call with what `fn` returns, run on `pool`:
//   grpc::ServerUnaryReactor* GetModel(context, request, response) override {
//     return HandleUnary(context, pool_, request, response,
//         [this, context](const v1::GetModelRequest& request)
//             -> absl::StatusOr<v1::Model> { ... });
//   }
// The pool outlives the server.
template <typename Request, typename Response, typename Fn>
grpc::ServerUnaryReactor* HandleUnary(grpc::CallbackServerContext* context,
                                      ThreadPool& pool, const Request* request,
                                      Response* response, Fn fn) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  RunOn(
      pool,
      [reactor, request, response, fn = std::move(fn)]() mutable {
        absl::StatusOr<Response> result = fn(*request);
        if (result.ok()) *response = *std::move(result);
        reactor->Finish(ToGrpcStatus(result.status()));
      },
      [reactor](absl::Status status) {
        reactor->Finish(ToGrpcStatus(status));
      });
  return reactor;
}

// How a call waits.
struct LongPoll {
  // Until the call is answered with what there is.
  absl::Duration wait;
  // Between two looks.
  absl::Duration interval = absl::Milliseconds(100);
};

namespace internal {

// Looks, waits, looks again. There is always exactly one thing under way (a
// look or the alarm), so nothing here needs a lock.
template <typename Request, typename Response, typename Fn>
class LongPollReactor : public grpc::ServerUnaryReactor {
 public:
  LongPollReactor(grpc::CallbackServerContext* context, ThreadPool& pool,
                  const Request* request, Response* response, LongPoll poll,
                  Fn fn)
      : context_(context),
        pool_(pool),
        request_(request),
        response_(response),
        interval_(poll.interval),
        until_(absl::Now() + poll.wait),
        fn_(std::move(fn)) {
    Hop();
  }

  void OnDone() override {
    baton_.Take();
    delete this;
  }

 private:
  void Hop() {
    RunOn(
        pool_, [this] { Look(); },
        [this](absl::Status status) { Close(ToGrpcStatus(status)); });
  }

  void Close(const grpc::Status& status) {
    baton_.Give();
    Finish(status);
  }

  void Look() {
    if (context_->IsCancelled()) return Close(grpc::Status::CANCELLED);
    const bool is_last = absl::Now() + interval_ > until_;
    absl::StatusOr<std::optional<Response>> found = fn_(*request_);
    if (found.ok() && !found->has_value() && !is_last) {
      baton_.Give();
      alarm_.Set(absl::ToChronoTime(absl::Now() + interval_), [this](bool) {
        baton_.Take();
        Hop();
      });
      return;
    }
    if (found.ok() && found->has_value()) *response_ = *std::move(*found);
    Close(ToGrpcStatus(found.status()));
  }

  grpc::CallbackServerContext* const context_;
  ThreadPool& pool_;
  const Request* const request_;
  Response* const response_;
  const absl::Duration interval_;
  const absl::Time until_;
  Fn fn_;
  grpc::Alarm alarm_;
  Baton baton_;
};

}  // namespace internal

// Answers a unary call as soon as `fn`, looked at again and again on `pool`,
// returns a value; with an empty response when the time is up. No thread is
// held in between. `fn(request)` returns StatusOr<optional<Response>>.
template <typename Request, typename Response, typename Fn>
grpc::ServerUnaryReactor* HandleLongPoll(grpc::CallbackServerContext* context,
                                         ThreadPool& pool,
                                         const Request* request,
                                         Response* response, LongPoll poll,
                                         Fn fn) {
  return new internal::LongPollReactor<Request, Response, Fn>(
      context, pool, request, response, poll, std::move(fn));
}

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_SERVER_UNARY_H_
