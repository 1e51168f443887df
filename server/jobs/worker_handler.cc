#include "server/jobs/worker_handler.h"

#include <algorithm>
#include <optional>

#include "core/base/status_macros.h"
#include "server/auth/permission.h"

namespace cairn {
namespace {

constexpr absl::Duration kLeaseWaitMax = absl::Seconds(20);

absl::Duration WaitOf(const v1::LeaseJobRequest& request) {
  const absl::Duration wait = absl::Seconds(request.wait().seconds()) +
                              absl::Nanoseconds(request.wait().nanos());
  return std::clamp(wait, absl::ZeroDuration(), kLeaseWaitMax);
}

}  // namespace

grpc::ServerUnaryReactor* WorkerHandler::OpenSession(
    grpc::CallbackServerContext* context, const v1::OpenSessionRequest* request,
    v1::Session* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::OpenSessionRequest& call)
          -> absl::StatusOr<v1::Session> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kWork, ""));
        return jobs_.OpenSession(caller, call);
      });
}

grpc::ServerUnaryReactor* WorkerHandler::LeaseJob(
    grpc::CallbackServerContext* context, const v1::LeaseJobRequest* request,
    v1::LeaseJobResponse* response) {
  return HandleLongPoll(
      context, calls_.pool, request, response, {.wait = WaitOf(*request)},
      [this, context](const v1::LeaseJobRequest& call)
          -> absl::StatusOr<std::optional<v1::LeaseJobResponse>> {
        CAIRN_ASSIGN_OR_RETURN(
            Caller caller, calls_.tokens.Identify(AuthorizationOf(*context)));
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kWork, ""));
        CAIRN_ASSIGN_OR_RETURN(auto leased,
                               jobs_.Lease(caller, call.session()));
        if (!leased.has_lease()) {
          return std::optional<v1::LeaseJobResponse>();
        }
        return std::optional<v1::LeaseJobResponse>(std::move(leased));
      });
}

grpc::ServerUnaryReactor* WorkerHandler::Heartbeat(
    grpc::CallbackServerContext* context, const v1::HeartbeatRequest* request,
    v1::HeartbeatResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::HeartbeatRequest& call)
          -> absl::StatusOr<v1::HeartbeatResponse> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kWork, ""));
        return jobs_.Heartbeat(caller, call);
      });
}

grpc::ServerUnaryReactor* WorkerHandler::CompleteJob(
    grpc::CallbackServerContext* context, const v1::CompleteJobRequest* request,
    v1::CompleteJobResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::CompleteJobRequest& call)
          -> absl::StatusOr<v1::CompleteJobResponse> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kWork, ""));
        CAIRN_RETURN_IF_ERROR(jobs_.Complete(caller, call));
        return v1::CompleteJobResponse();
      });
}

}  // namespace cairn
