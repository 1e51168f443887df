#include "server/release/tag_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* TagHandler::GetTag(
    grpc::CallbackServerContext* context, const v1::GetTagRequest* request,
    v1::Tag* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&TagTable::Get, &tags_));
}

grpc::ServerUnaryReactor* TagHandler::ListTags(
    grpc::CallbackServerContext* context, const v1::ListTagsRequest* request,
    v1::ListTagsResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&TagTable::List, &tags_));
}

grpc::ServerUnaryReactor* TagHandler::SetTag(
    grpc::CallbackServerContext* context, const v1::SetTagRequest* request,
    v1::Tag* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&TagTable::Set, &tags_));
}

grpc::ServerUnaryReactor* TagHandler::DeleteTag(
    grpc::CallbackServerContext* context, const v1::DeleteTagRequest* request,
    v1::DeleteTagResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&TagTable::Delete, &tags_));
}

grpc::ServerUnaryReactor* TagHandler::Rollback(
    grpc::CallbackServerContext* context, const v1::RollbackRequest* request,
    v1::Tag* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&TagTable::Rollback, &tags_));
}

}  // namespace cairn
