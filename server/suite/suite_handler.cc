#include "server/suite/suite_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* SuiteHandler::AddSuite(
    grpc::CallbackServerContext* context, const v1::AddSuiteRequest* request,
    v1::Suite* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&SuiteCatalog::Add, &suites_));
}

grpc::ServerUnaryReactor* SuiteHandler::GetSuite(
    grpc::CallbackServerContext* context, const v1::GetSuiteRequest* request,
    v1::Suite* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&SuiteCatalog::Get, &suites_));
}

grpc::ServerUnaryReactor* SuiteHandler::ListSuites(
    grpc::CallbackServerContext* context, const v1::ListSuitesRequest* request,
    v1::ListSuitesResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&SuiteCatalog::List, &suites_));
}

}  // namespace cairn
