#include "server/review/review_handler.h"

#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"

namespace cairn {

grpc::ServerUnaryReactor* ReviewHandler::GetReview(
    grpc::CallbackServerContext* context, const v1::GetReviewRequest* request,
    v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::GetReviewRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kReview, ModelOf(call.name())));
        return reviews_.Get(caller, call);
      });
}

grpc::ServerUnaryReactor* ReviewHandler::Approve(
    grpc::CallbackServerContext* context, const v1::ReviewRequest* request,
    v1::Contribution* response) {
  return HandleCall(context, calls_, request, response,
                    [this](const Caller& caller, const v1::ReviewRequest& call)
                        -> absl::StatusOr<v1::Contribution> {
                      CAIRN_RETURN_IF_ERROR(Authorize(
                          caller, Permission::kReview, ModelOf(call.name())));
                      return reviews_.Approve(caller, call);
                    });
}

grpc::ServerUnaryReactor* ReviewHandler::Reject(
    grpc::CallbackServerContext* context, const v1::ReviewRequest* request,
    v1::Contribution* response) {
  return HandleCall(context, calls_, request, response,
                    [this](const Caller& caller, const v1::ReviewRequest& call)
                        -> absl::StatusOr<v1::Contribution> {
                      CAIRN_RETURN_IF_ERROR(Authorize(
                          caller, Permission::kReview, ModelOf(call.name())));
                      return reviews_.Reject(caller, call);
                    });
}

grpc::ServerUnaryReactor* ReviewHandler::AddComment(
    grpc::CallbackServerContext* context, const v1::AddCommentRequest* request,
    v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::AddCommentRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kComment, ModelOf(call.name())));
        return reviews_.AddComment(caller, call);
      });
}

}  // namespace cairn
