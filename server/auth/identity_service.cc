#include "server/auth/identity_service.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/ed25519.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/auth/permission.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::UserRecord;

constexpr absl::string_view kTrustKinds[] = {"evaluate", "merge"};

absl::Status KnownCaller(const Caller& caller) {
  if (!caller.is_anonymous()) return absl::OkStatus();
  return absl::UnauthenticatedError(
      "this needs a token: give one with --token-file or CAIRN_TOKEN");
}

absl::Status CheckTrust(const v1::User& user) {
  if (!user.trust().empty() && user.role() != v1::User::WORKER) {
    return absl::InvalidArgumentError(
        absl::StrCat("user.trust is for workers only; the role is ",
                     v1::User::Role_Name(user.role())));
  }
  for (const std::string& kind : user.trust()) {
    if (std::find(std::begin(kTrustKinds), std::end(kTrustKinds), kind) ==
        std::end(kTrustKinds)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "user.trust '", kind, "' is neither 'evaluate' nor 'merge'"));
    }
  }
  return absl::OkStatus();
}

absl::Status SameUser(const v1::User& there, const v1::User& wanted) {
  bool same = there.role() == wanted.role() &&
              there.model() == wanted.model() &&
              there.organisation() == wanted.organisation() &&
              std::equal(there.trust().begin(), there.trust().end(),
                         wanted.trust().begin(), wanted.trust().end());
  if (same) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(
      there.name(), " exists already as ", v1::User::Role_Name(there.role()),
      there.model().empty() ? "" : absl::StrCat(" of ", there.model())));
}

}  // namespace

std::string RegistrationText(absl::string_view hub_id, absl::string_view user) {
  return absl::StrCat(hub_id, absl::string_view("\0", 1), user);
}

absl::StatusOr<v1::User> ParseNewUser(const v1::CreateUserRequest& request) {
  if (!IsChosenId(request.user_id())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "user_id '", request.user_id(),
        "' is not 1 to 64 lower-case letters, digits, '-', '_' or '.', "
        "beginning with a letter or digit"));
  }
  v1::User user;
  user.set_name(absl::StrCat("users/", request.user_id()));
  user.set_role(request.user().role());
  if (!v1::User::Role_IsValid(user.role()) ||
      user.role() == v1::User::ROLE_UNSPECIFIED) {
    return absl::InvalidArgumentError(
        "user.role is not set; it is one of reader, contributor, reviewer, "
        "maintainer, worker, administrator");
  }
  if (!request.user().model().empty()) {
    CAIRN_ASSIGN_OR_RETURN(auto model,
                           ModelName::Parse(request.user().model()));
    if (user.role() == v1::User::WORKER ||
        user.role() == v1::User::ADMINISTRATOR) {
      return absl::InvalidArgumentError(
          absl::StrCat("user.model: a ", v1::User::Role_Name(user.role()),
                       " is never for one model only"));
    }
    user.set_model(model.full());
  }
  if (const std::string& organisation = request.user().organisation();
      !organisation.empty()) {
    if (!IsChosenId(organisation)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "user.organisation '", organisation,
          "' is not 1 to 64 lower-case letters, digits, '-', '_' or '.', "
          "beginning with a letter or digit"));
    }
    user.set_organisation(organisation);
  }
  *user.mutable_trust() = request.user().trust();
  CAIRN_RETURN_IF_ERROR(CheckTrust(user));
  if (user.role() == v1::User::WORKER && user.trust().empty()) {
    for (absl::string_view kind : kTrustKinds) {
      user.add_trust(std::string(kind));
    }
  }
  std::sort(user.mutable_trust()->begin(), user.mutable_trust()->end());
  user.mutable_trust()->erase(
      std::unique(user.mutable_trust()->begin(), user.mutable_trust()->end()),
      user.mutable_trust()->end());
  return user;
}

absl::StatusOr<v1::User> IdentityService::GetProfile(
    const Caller& caller, const v1::GetProfileRequest&) const {
  CAIRN_RETURN_IF_ERROR(KnownCaller(caller));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         store_.Read().Get<UserRecord>(caller.user));
  return record.user();
}

absl::StatusOr<v1::User> IdentityService::RegisterKey(
    const Caller& caller, const v1::RegisterKeyRequest& request) {
  CAIRN_RETURN_IF_ERROR(KnownCaller(caller));
  std::string text = RegistrationText(hub_id_, caller.user);
  CAIRN_RETURN_IF_ERROR(
      Annotate(VerifySignature(request.public_key(), kRegisterDomain, text,
                               request.proof()),
               "proof of possession of public_key"));
  v1::User user;
  absl::Status stored =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto record, txn.Get<UserRecord>(caller.user));
        const std::string& registered = record.user().public_key();
        if (!registered.empty() && registered != request.public_key()) {
          if (request.previous_proof().empty()) {
            return ReasonedError(
                absl::StatusCode::kPermissionDenied, "NOT_PERMITTED",
                absl::StrCat(
                    caller.user, " has registered key ", registered,
                    "; another one needs previous_proof, a signature by "
                    "that key"));
          }
          CAIRN_RETURN_IF_ERROR(
              Annotate(VerifySignature(registered, kRegisterDomain, text,
                                       request.previous_proof()),
                       "previous_proof by the registered key"));
        }
        record.mutable_user()->set_public_key(request.public_key());
        CAIRN_RETURN_IF_ERROR(txn.Put(record));
        user = record.user();
        return absl::OkStatus();
      });
  if (!stored.ok()) return stored;
  return user;
}

absl::StatusOr<v1::User> IdentityService::CreateUser(
    const Caller& caller, const v1::CreateUserRequest& request) {
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kManageUsers, ""));
  CAIRN_ASSIGN_OR_RETURN(v1::User user, ParseNewUser(request));
  absl::Status stored =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto there, txn.Find<UserRecord>(user.name()));
        if (there.has_value()) {
          CAIRN_RETURN_IF_ERROR(SameUser(there->user(), user));
          user = there->user();
          return absl::OkStatus();
        }
        UserRecord record;
        *user.mutable_create_time() = ToTimestamp(txn.now());
        *record.mutable_user() = user;
        CAIRN_RETURN_IF_ERROR(txn.Put(record));
        user = record.user();
        return absl::OkStatus();
      });
  if (!stored.ok()) return stored;
  return user;
}

absl::StatusOr<v1::ListUsersResponse> IdentityService::ListUsers(
    const Caller& caller, const v1::ListUsersRequest& request) const {
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kListUsers, ""));
  CAIRN_ASSIGN_OR_RETURN(
      auto page, store_.Read().List<UserRecord>(
                     "users/", {request.page_size(), request.page_token()}));
  v1::ListUsersResponse response;
  for (auto& record : page.records) {
    *response.add_items() = std::move(*record.mutable_user());
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::Token> IdentityService::CreateToken(
    const Caller& caller, const v1::CreateTokenRequest& request) {
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kManageUsers, ""));
  CAIRN_ASSIGN_OR_RETURN(auto user, UserName::Parse(request.user()));
  absl::Duration ttl = kTokenTtlDefault;
  if (request.has_ttl()) {
    ttl = absl::Seconds(request.ttl().seconds()) +
          absl::Nanoseconds(request.ttl().nanos());
  }
  return tokens_.Create(user.full(), ttl);
}

absl::StatusOr<v1::User> IdentityService::RevokeTokens(
    const Caller& caller, const v1::RevokeTokensRequest& request) {
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kManageUsers, ""));
  CAIRN_ASSIGN_OR_RETURN(auto user, UserName::Parse(request.user()));
  CAIRN_RETURN_IF_ERROR(tokens_.RevokeAll(user.full()));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         store_.Read().Get<UserRecord>(user.full()));
  return record.user();
}

}  // namespace cairn
