#ifndef CAIRN_SERVER_AUTH_IDENTITY_HANDLER_H_
#define CAIRN_SERVER_AUTH_IDENTITY_HANDLER_H_

#include "cairn/v1/identity.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/auth/identity_service.h"

namespace cairn {

// The IdentityService RPCs. Everything given must outlive the server that it is
// registered with.
class IdentityHandler : public v1::IdentityService::CallbackService {
 public:
  IdentityHandler(IdentityService& identities, CallEnvironment calls)
      : identities_(identities), calls_(calls) {}

  grpc::ServerUnaryReactor* GetProfile(grpc::CallbackServerContext* context,
                                       const v1::GetProfileRequest* request,
                                       v1::User* response) override;
  grpc::ServerUnaryReactor* RegisterKey(grpc::CallbackServerContext* context,
                                        const v1::RegisterKeyRequest* request,
                                        v1::User* response) override;

 private:
  IdentityService& identities_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_AUTH_IDENTITY_HANDLER_H_
