#include "server/auth/token_authority.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/flow/contribution_state.h"

namespace cairn {
namespace {

using store::v1::TokenRecord;
using store::v1::UserRecord;

// `hf_` and at least 34 alphanumerics is what Hugging Face clients accept as a
// token; ours has that shape so that the same secret serves them too.
constexpr char kSecretPrefix[] = "hf_cairn";
constexpr size_t kSecretBytes = 32;
constexpr size_t kSecretCharsMax = 512;
constexpr size_t kTokensPerUserMax = 10'000;

absl::Status Unknown() {
  return absl::UnauthenticatedError(
      "the token is unknown, revoked or expired; ask an administrator for a "
      "new one (cairn admin token create NAME)");
}

}  // namespace

absl::StatusOr<v1::Token> TokenAuthority::Create(absl::string_view user,
                                                 absl::Duration ttl) {
  if (ttl <= absl::ZeroDuration() || ttl > kTokenTtlMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ttl ", absl::FormatDuration(ttl), " is not above 0 and at most ",
        absl::FormatDuration(kTokenTtlMax)));
  }
  std::string secret =
      absl::StrCat(kSecretPrefix, ToHex(RandomBytes(kSecretBytes)));
  v1::Token token;
  token.set_user(std::string(user));
  absl::Status stored = store_.Transact([&](HubTransaction& txn) {
    CAIRN_RETURN_IF_ERROR(txn.Get<UserRecord>(user));
    TokenRecord record;
    record.set_secret_sha256(Digest::Of(secret).hex());
    record.set_user(std::string(user));
    *record.mutable_create_time() = ToTimestamp(txn.now());
    *record.mutable_expire_time() = ToTimestamp(txn.now() + ttl);
    *token.mutable_expire_time() = record.expire_time();
    return txn.Put(record);
  });
  if (!stored.ok()) return stored;
  token.set_token(std::move(secret));
  return token;
}

absl::Status TokenAuthority::RevokeAll(absl::string_view user) {
  return store_.Transact([&](HubTransaction& txn) -> absl::Status {
    CAIRN_RETURN_IF_ERROR(txn.Get<UserRecord>(user));
    CAIRN_ASSIGN_OR_RETURN(
        auto tokens,
        txn.FindBy<TokenRecord>(kTokenByUser, user, kTokensPerUserMax));
    for (const TokenRecord& token : tokens) {
      CAIRN_RETURN_IF_ERROR(txn.Delete<TokenRecord>(token.secret_sha256()));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<Caller> TokenAuthority::Identify(
    absl::string_view authorization) const {
  if (authorization.empty()) return Caller();
  if (!absl::StartsWithIgnoreCase(authorization, "bearer ")) {
    return absl::UnauthenticatedError(
        "the authorization metadata is not 'Bearer TOKEN'");
  }
  absl::string_view secret =
      absl::StripAsciiWhitespace(authorization.substr(7));
  if (secret.empty() || secret.size() > kSecretCharsMax) return Unknown();
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto token,
                         snapshot.Find<TokenRecord>(Digest::Of(secret).hex()));
  if (!token.has_value() ||
      FromTimestamp(token->expire_time()) <= store_.clock().Now()) {
    return Unknown();
  }
  CAIRN_ASSIGN_OR_RETURN(auto record, snapshot.Find<UserRecord>(token->user()));
  if (!record.has_value()) return Unknown();
  const v1::User& user = record->user();
  return Caller{.user = user.name(),
                .role = user.role(),
                .model = user.model(),
                .public_key = user.public_key(),
                .trust = {user.trust().begin(), user.trust().end()}};
}

}  // namespace cairn
