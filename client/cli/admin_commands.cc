#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/identity.grpc.pb.h"
#include "client/cli/command.h"
#include "client/cli/output.h"
#include "client/cli/paging.h"
#include "client/cli/storage_commands.h"
#include "client/names.h"
#include "client/policy_yaml.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"

namespace cairn::cli {
namespace {

using v1::AdminService;

struct UserOptions {
  std::string name;
  std::string role;
  std::string model;
  std::vector<std::string> trust;
  std::string organisation;
};

struct TokenOptions {
  std::string name;
  std::string expires;
};

std::string UserName(const std::string& text) {
  return absl::StrCat("users/", ShortName(text));
}

absl::Status AddUser(Session& session, const UserOptions& options) {
  v1::CreateUserRequest request;
  v1::User::Role role = v1::User::ROLE_UNSPECIFIED;
  if (!v1::User::Role_Parse(absl::AsciiStrToUpper(options.role), &role) ||
      role == v1::User::ROLE_UNSPECIFIED) {
    return UsageError(absl::StrCat(
        "--role ", options.role,
        ": must be reader, contributor, reviewer, maintainer, worker or "
        "administrator"));
  }
  request.set_user_id(ShortName(options.name));
  request.mutable_user()->set_role(role);
  if (!options.model.empty()) {
    CAIRN_ASSIGN_OR_RETURN(*request.mutable_user()->mutable_model(),
                           ModelName(options.model));
  }
  request.mutable_user()->set_organisation(options.organisation);
  for (const std::string& kind : options.trust) {
    request.mutable_user()->add_trust(kind);
  }
  request.set_request_id(ToHex(RandomBytes(16)));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::User user,
                         hub->Call(&AdminService::Stub::CreateUser, request));
  PrintResource(session, user, [&] {
    return absl::StrCat("created ", user.name(), " as ",
                        absl::AsciiStrToLower(v1::User::Role_Name(user.role())),
                        "; next: cairn admin token create ",
                        ShortName(user.name()));
  });
  return absl::OkStatus();
}

absl::Status ListUsers(Session& session) {
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(
      auto users,
      ListAll(*hub, &AdminService::Stub::ListUsers, v1::ListUsersRequest()));
  PrintList(session, users, [&] {
    Table table({"NAME", "ROLE", "ORGANISATION", "MODEL", "TRUST", "KEY"});
    for (const v1::User& user : users) {
      table.Add({ShortName(user.name()),
                 absl::AsciiStrToLower(v1::User::Role_Name(user.role())),
                 user.organisation(), user.model(),
                 absl::StrJoin(user.trust(), ","),
                 user.public_key().substr(0, 12)});
    }
    return table.Render();
  });
  return absl::OkStatus();
}

absl::Status CreateToken(Session& session, const TokenOptions& options) {
  v1::CreateTokenRequest request;
  request.set_user(UserName(options.name));
  if (!options.expires.empty()) {
    auto seconds = ParseSeconds(options.expires);
    if (!seconds.ok()) return UsageError(seconds.status().message());
    request.mutable_ttl()->set_seconds(*seconds);
  }
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::Token token,
                         hub->Call(&AdminService::Stub::CreateToken, request,
                                   {.retry = Retry::kUnsent}));
  session.Note(absl::StrCat("token of ", token.user(), ", valid until ",
                            FormatTime(token.expire_time()),
                            "; it is shown only now"));
  PrintResource(session, token, [&] { return token.token(); });
  return absl::OkStatus();
}

absl::Status RevokeTokens(Session& session, const TokenOptions& options) {
  v1::RevokeTokensRequest request;
  request.set_user(UserName(options.name));
  CAIRN_ASSIGN_OR_RETURN(HubChannel * hub, session.Hub());
  CAIRN_ASSIGN_OR_RETURN(v1::User user,
                         hub->Call(&AdminService::Stub::RevokeTokens, request));
  PrintResource(session, user, [&] {
    return absl::StrCat("revoked every token of ", user.name());
  });
  return absl::OkStatus();
}

}  // namespace

void AddAdminCommands(CommandLine& root) {
  CommandLine admin = root.Group("admin", "Users, tokens and the store");
  CommandLine user = admin.Group("user", "Users");
  user.Add<UserOptions>(
      "add", "Create a user with a role",
      "cairn admin user add alice --role contributor",
      [](Parameters& p, UserOptions& o) {
        p.Argument("NAME", o.name, "Lower-case letters, digits, - _ .");
        p.RequiredOption("--role", o.role,
                         "reader, contributor, reviewer, maintainer, worker "
                         "or administrator");
        p.Option("--model", o.model, "Only for this model");
        p.Option("--trust", o.trust,
                 "Jobs a worker is trusted with: evaluate, merge (default: "
                 "both)");
        p.Option("--organisation", o.organisation,
                 "Whom the user works for; attempts are charged to it as well");
      },
      AddUser);
  struct None {};
  user.Add<None>(
      "list", "List users", "cairn admin user list", [](Parameters&, None&) {},
      [](Session& session, const None&) { return ListUsers(session); });
  CommandLine token = admin.Group("token", "Bearer tokens");
  token.Add<TokenOptions>(
      "create", "Make a token and print it",
      "cairn admin token create alice --expires 30d",
      [](Parameters& p, TokenOptions& o) {
        p.Argument("NAME", o.name, "The user");
        p.Option("--expires", o.expires, "Valid for, e.g. 30d (default: 90d)");
      },
      CreateToken);
  token.Add<TokenOptions>(
      "revoke", "Revoke every token of a user",
      "cairn admin token revoke alice",
      [](Parameters& p, TokenOptions& o) {
        p.Argument("NAME", o.name, "The user");
      },
      RevokeTokens);
  AddStorageCommands(admin);
}

}  // namespace cairn::cli
