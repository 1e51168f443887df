#ifndef CAIRN_SERVER_AUTH_IDENTITY_SERVICE_H_
#define CAIRN_SERVER_AUTH_IDENTITY_SERVICE_H_

#include <string>

#include "absl/status/statusor.h"
#include "cairn/v1/identity.pb.h"
#include "server/auth/token_authority.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"

namespace cairn {

// The domain of RegisterKeyRequest's proofs; what is signed is
// RegistrationText(hub_id, user).
inline constexpr char kRegisterDomain[] = "cairn.register.v1";
std::string RegistrationText(absl::string_view hub_id, absl::string_view user);

// Users, their keys and tokens. Checks permissions itself. Thread-safe.
class IdentityService {
 public:
  // `store` must outlive it.
  IdentityService(HubStore& store, std::string hub_id)
      : store_(store), tokens_(store), hub_id_(std::move(hub_id)) {}

  absl::StatusOr<v1::User> GetProfile(
      const Caller& caller, const v1::GetProfileRequest& request) const;
  // Registers the caller's key after the new key (and the old one, if there
  // is another) signed for it. Registering the same key again is success.
  absl::StatusOr<v1::User> RegisterKey(const Caller& caller,
                                       const v1::RegisterKeyRequest& request);
  // ALREADY_EXISTS when there is such a user with another role, model or
  // trust; an identical one is success.
  absl::StatusOr<v1::User> CreateUser(const Caller& caller,
                                      const v1::CreateUserRequest& request);
  absl::StatusOr<v1::ListUsersResponse> ListUsers(
      const Caller& caller, const v1::ListUsersRequest& request) const;
  absl::StatusOr<v1::Token> CreateToken(const Caller& caller,
                                        const v1::CreateTokenRequest& request);
  absl::StatusOr<v1::User> RevokeTokens(const Caller& caller,
                                        const v1::RevokeTokensRequest& request);

 private:
  HubStore& store_;
  TokenAuthority tokens_;
  const std::string hub_id_;
};

// The user that a request for a new one describes: role, model and trust
// checked and defaults filled in. INVALID_ARGUMENT naming the field otherwise.
absl::StatusOr<v1::User> ParseNewUser(const v1::CreateUserRequest& request);

}  // namespace cairn

#endif  // CAIRN_SERVER_AUTH_IDENTITY_SERVICE_H_
