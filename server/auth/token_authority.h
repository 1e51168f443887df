#ifndef CAIRN_SERVER_AUTH_TOKEN_AUTHORITY_H_
#define CAIRN_SERVER_AUTH_TOKEN_AUTHORITY_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cairn/v1/identity.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"

namespace cairn {

inline constexpr absl::Duration kTokenTtlDefault = absl::Hours(24 * 90);
inline constexpr absl::Duration kTokenTtlMax = absl::Hours(24 * 365 * 5);

// Bearer tokens. Only the SHA-256 of a secret is stored, so that a copy of the
// store gives no access. A token acts for its user as the user is now: a
// changed role or a revoked token counts from the next call on. Thread-safe.
class TokenAuthority {
 public:
  // `store` must outlive it.
  explicit TokenAuthority(HubStore& store) : store_(store) {}

  // Makes a token of a user. NOT_FOUND for an unknown user; INVALID_ARGUMENT
  // for a ttl that is not within (0, kTokenTtlMax]. The secret is in the
  // result only.
  absl::StatusOr<v1::Token> Create(absl::string_view user, absl::Duration ttl);
  // Removes every token of a user.
  absl::Status RevokeAll(absl::string_view user);

  // Who a value of the `authorization` metadata ("Bearer SECRET") speaks for.
  // Empty: the anonymous caller. UNAUTHENTICATED for anything else that is
  // not a valid token.
  absl::StatusOr<Caller> Identify(absl::string_view authorization) const;

 private:
  HubStore& store_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_AUTH_TOKEN_AUTHORITY_H_
