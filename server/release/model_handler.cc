#include "server/release/model_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* ModelHandler::CreateModel(
    grpc::CallbackServerContext* context, const v1::CreateModelRequest* request,
    v1::Model* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ModelCatalog::Create, &models_));
}

grpc::ServerUnaryReactor* ModelHandler::GetModel(
    grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
    v1::Model* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ModelCatalog::Get, &models_));
}

grpc::ServerUnaryReactor* ModelHandler::ListModels(
    grpc::CallbackServerContext* context, const v1::ListModelsRequest* request,
    v1::ListModelsResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ModelCatalog::List, &models_));
}

grpc::ServerUnaryReactor* ModelHandler::SetPolicy(
    grpc::CallbackServerContext* context, const v1::SetPolicyRequest* request,
    v1::Model* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&ModelCatalog::SetPolicy, &models_));
}

}  // namespace cairn
