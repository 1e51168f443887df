#include "server/queue/batch_handler.h"

#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

Figures FiguresFor(const Caller& caller, absl::string_view model) {
  return Authorize(caller, Permission::kReview, model).ok() ? Figures::kExact
                                                            : Figures::kRounded;
}

}  // namespace

grpc::ServerUnaryReactor* BatchHandler::StartBatch(
    grpc::CallbackServerContext* context, const v1::StartBatchRequest* request,
    v1::Batch* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller,
             const v1::StartBatchRequest& call) -> absl::StatusOr<v1::Batch> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kManageBatches, call.parent()));
        return batches_.Start(caller, call);
      });
}

grpc::ServerUnaryReactor* BatchHandler::GetBatch(
    grpc::CallbackServerContext* context, const v1::GetBatchRequest* request,
    v1::Batch* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller,
             const v1::GetBatchRequest& call) -> absl::StatusOr<v1::Batch> {
        const absl::string_view model = ModelOf(call.name());
        CAIRN_RETURN_IF_ERROR(
            AuthorizeRead(store_.Read(), caller, Permission::kRead, model));
        return batches_.Get(call, FiguresFor(caller, model));
      });
}

grpc::ServerUnaryReactor* BatchHandler::ListBatches(
    grpc::CallbackServerContext* context, const v1::ListBatchesRequest* request,
    v1::ListBatchesResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::ListBatchesRequest& call)
          -> absl::StatusOr<v1::ListBatchesResponse> {
        CAIRN_RETURN_IF_ERROR(AuthorizeRead(store_.Read(), caller,
                                            Permission::kRead, call.parent()));
        return batches_.List(call, FiguresFor(caller, call.parent()));
      });
}

grpc::ServerUnaryReactor* QueueHandler::ListQueue(
    grpc::CallbackServerContext* context, const v1::ListQueueRequest* request,
    v1::ListQueueResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::ListQueueRequest& call)
          -> absl::StatusOr<v1::ListQueueResponse> {
        CAIRN_RETURN_IF_ERROR(AuthorizeRead(store_.Read(), caller,
                                            Permission::kRead, call.parent()));
        return batches_.ListQueue(caller, call,
                                  FiguresFor(caller, call.parent()));
      });
}

grpc::ServerUnaryReactor* QueueHandler::Hold(
    grpc::CallbackServerContext* context, const v1::QueueEditRequest* request,
    v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::QueueEditRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kManageQueue, ModelOf(call.name())));
        return batches_.Hold(caller, call);
      });
}

grpc::ServerUnaryReactor* QueueHandler::Unhold(
    grpc::CallbackServerContext* context, const v1::QueueEditRequest* request,
    v1::Contribution* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::QueueEditRequest& call)
          -> absl::StatusOr<v1::Contribution> {
        CAIRN_RETURN_IF_ERROR(
            Authorize(caller, Permission::kManageQueue, ModelOf(call.name())));
        return batches_.Unhold(caller, call);
      });
}

}  // namespace cairn
