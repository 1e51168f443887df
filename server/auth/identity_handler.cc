#include "server/auth/identity_handler.h"

#include <functional>

namespace cairn {

grpc::ServerUnaryReactor* IdentityHandler::GetProfile(
    grpc::CallbackServerContext* context, const v1::GetProfileRequest* request,
    v1::User* response) {
  return HandleCall(
      context, calls_, request, response,
      std::bind_front(&IdentityService::GetProfile, &identities_));
}

grpc::ServerUnaryReactor* IdentityHandler::RegisterKey(
    grpc::CallbackServerContext* context, const v1::RegisterKeyRequest* request,
    v1::User* response) {
  return HandleCall(
      context, calls_, request, response,
      std::bind_front(&IdentityService::RegisterKey, &identities_));
}

}  // namespace cairn
