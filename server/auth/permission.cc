#include "server/auth/permission.h"

#include <initializer_list>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using Role = v1::User;

struct Grant {
  Permission permission;
  absl::string_view text;
  std::initializer_list<v1::User::Role> roles;
};

// The table. A role that is not named does not have the permission.
const Grant kGrants[] = {
    {Permission::kRead,
     "read this model",
     {Role::READER, Role::CONTRIBUTOR, Role::REVIEWER, Role::MAINTAINER,
      Role::ADMINISTRATOR}},
    {Permission::kPull,
     "pull releases",
     {Role::READER, Role::CONTRIBUTOR, Role::REVIEWER, Role::MAINTAINER,
      Role::WORKER, Role::ADMINISTRATOR}},
    {Permission::kUpload,
     "upload",
     {Role::CONTRIBUTOR, Role::REVIEWER, Role::MAINTAINER, Role::WORKER}},
    {Permission::kPush,
     "push contributions",
     {Role::CONTRIBUTOR, Role::REVIEWER, Role::MAINTAINER}},
    {Permission::kComment,
     "comment on contributions",
     {Role::CONTRIBUTOR, Role::REVIEWER, Role::MAINTAINER}},
    {Permission::kReview,
     "review contributions",
     {Role::REVIEWER, Role::MAINTAINER}},
    {Permission::kReplay, "replay merges", {Role::REVIEWER, Role::MAINTAINER}},
    {Permission::kManageQueue, "change the queue", {Role::MAINTAINER}},
    {Permission::kManageBatches, "start batches", {Role::MAINTAINER}},
    {Permission::kManageModels,
     "create models or set their policy",
     {Role::MAINTAINER}},
    {Permission::kManageSuites, "add suites", {Role::MAINTAINER}},
    {Permission::kManageReleases,
     "move tags, revert or yank",
     {Role::MAINTAINER}},
    {Permission::kCheckStore,
     "check the store",
     {Role::MAINTAINER, Role::ADMINISTRATOR}},
    {Permission::kBackup, "back up the hub", {Role::ADMINISTRATOR}},
    {Permission::kListUsers,
     "list users",
     {Role::MAINTAINER, Role::ADMINISTRATOR}},
    {Permission::kManageUsers,
     "manage users and tokens",
     {Role::ADMINISTRATOR}},
    {Permission::kWork, "lease jobs", {Role::WORKER}},
};

const Grant& GrantOf(Permission permission) {
  return kGrants[static_cast<size_t>(permission)];
}

std::string RoleText(v1::User::Role role) {
  return absl::AsciiStrToLower(v1::User::Role_Name(role));
}

absl::Status NotPermitted(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kPermissionDenied, "NOT_PERMITTED",
                       message);
}

}  // namespace

absl::Span<const Permission> AllPermissions() {
  static const auto* const kAll = [] {
    auto* all = new std::vector<Permission>;
    for (const Grant& grant : kGrants) all->push_back(grant.permission);
    return all;
  }();
  return *kAll;
}

absl::string_view PermissionText(Permission permission) {
  return GrantOf(permission).text;
}

bool RoleAllows(v1::User::Role role, Permission permission) {
  const auto& roles = GrantOf(permission).roles;
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

absl::Status Authorize(const Caller& caller, Permission permission,
                       absl::string_view model) {
  absl::string_view text = PermissionText(permission);
  if (caller.is_anonymous()) {
    return absl::UnauthenticatedError(
        absl::StrCat("only a known user may ", text,
                     "; give a token with --token-file or CAIRN_TOKEN"));
  }
  if (!RoleAllows(caller.role, permission)) {
    return NotPermitted(absl::StrCat(
        caller.user, " is a ", RoleText(caller.role), " and may not ", text));
  }
  if (!caller.model.empty() && caller.model != model) {
    return NotPermitted(
        absl::StrCat(caller.user, " is a ", RoleText(caller.role), " of ",
                     caller.model, " only and may not ", text,
                     model.empty() ? std::string(" hub-wide")
                                   : absl::StrCat(" of ", model)));
  }
  return absl::OkStatus();
}

absl::Status AuthorizeRead(const HubReader& reader, const Caller& caller,
                           Permission permission, absl::string_view model) {
  absl::Status allowed = Authorize(caller, permission, model);
  if (allowed.ok() || model.empty()) return allowed;
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         reader.Find<store::v1::ModelRecord>(model));
  if (record.has_value() && record->model().policy().public_()) {
    return absl::OkStatus();
  }
  return allowed;
}

}  // namespace cairn
