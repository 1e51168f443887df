#include "server/release/exchange_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* ExchangeHandler::ImportModel(
    grpc::CallbackServerContext* context, const v1::ImportModelRequest* request,
    v1::ImportModelResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&LocalExchange::Import, &exchange_));
}

grpc::ServerUnaryReactor* ExchangeHandler::ExportRelease(
    grpc::CallbackServerContext* context,
    const v1::ExportReleaseRequest* request,
    v1::ExportReleaseResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&LocalExchange::Export, &exchange_));
}

}  // namespace cairn
