#ifndef CAIRN_SERVER_OPS_ADMIN_HANDLER_H_
#define CAIRN_SERVER_OPS_ADMIN_HANDLER_H_

#include "cairn/v1/identity.grpc.pb.h"
#include "server/auth/authenticated_call.h"
#include "server/auth/identity_service.h"
#include "storage/blob_store.h"

namespace cairn {

// The AdminService RPCs: users and tokens by the identity service, and the
// check of the store. Everything given must outlive the server that it is
// registered with.
class AdminHandler : public v1::AdminService::CallbackService {
 public:
  AdminHandler(IdentityService& identities, HubStore& store,
               const BlobStore& blobs, CallEnvironment calls)
      : identities_(identities), store_(store), blobs_(blobs), calls_(calls) {}

  grpc::ServerUnaryReactor* CreateUser(grpc::CallbackServerContext* context,
                                       const v1::CreateUserRequest* request,
                                       v1::User* response) override;
  grpc::ServerUnaryReactor* ListUsers(grpc::CallbackServerContext* context,
                                      const v1::ListUsersRequest* request,
                                      v1::ListUsersResponse* response) override;
  grpc::ServerUnaryReactor* CreateToken(grpc::CallbackServerContext* context,
                                        const v1::CreateTokenRequest* request,
                                        v1::Token* response) override;
  grpc::ServerUnaryReactor* RevokeTokens(grpc::CallbackServerContext* context,
                                         const v1::RevokeTokensRequest* request,
                                         v1::User* response) override;
  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const v1::CheckRequest* request,
                                  v1::CheckResponse* response) override;

 private:
  IdentityService& identities_;
  HubStore& store_;
  const BlobStore& blobs_;
  const CallEnvironment calls_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_OPS_ADMIN_HANDLER_H_
