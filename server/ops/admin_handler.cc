#include "server/ops/admin_handler.h"

#include <functional>

#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/ops/store_check.h"

namespace cairn {

grpc::ServerUnaryReactor* AdminHandler::CreateUser(
    grpc::CallbackServerContext* context, const v1::CreateUserRequest* request,
    v1::User* response) {
  return HandleCall(
      context, calls_, request, response,
      std::bind_front(&IdentityService::CreateUser, &identities_));
}

grpc::ServerUnaryReactor* AdminHandler::ListUsers(
    grpc::CallbackServerContext* context, const v1::ListUsersRequest* request,
    v1::ListUsersResponse* response) {
  return HandleCall(context, calls_, request, response,
                    std::bind_front(&IdentityService::ListUsers, &identities_));
}

grpc::ServerUnaryReactor* AdminHandler::CreateToken(
    grpc::CallbackServerContext* context, const v1::CreateTokenRequest* request,
    v1::Token* response) {
  return HandleCall(
      context, calls_, request, response,
      std::bind_front(&IdentityService::CreateToken, &identities_));
}

grpc::ServerUnaryReactor* AdminHandler::RevokeTokens(
    grpc::CallbackServerContext* context,
    const v1::RevokeTokensRequest* request, v1::User* response) {
  return HandleCall(
      context, calls_, request, response,
      std::bind_front(&IdentityService::RevokeTokens, &identities_));
}

grpc::ServerUnaryReactor* AdminHandler::Check(
    grpc::CallbackServerContext* context, const v1::CheckRequest* request,
    v1::CheckResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::CheckRequest& check)
          -> absl::StatusOr<v1::CheckResponse> {
        CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kCheckStore, ""));
        return CheckStore(
            store_.Read(), blobs_,
            check.read_blobs() ? BlobCheck::kContent : BlobCheck::kPresence);
      });
}

}  // namespace cairn
