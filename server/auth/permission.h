#ifndef CAIRN_SERVER_AUTH_PERMISSION_H_
#define CAIRN_SERVER_AUTH_PERMISSION_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/identity.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"

namespace cairn {

// What somebody may do. Which role holds which is the one table in
// permission.cc; README.md of this folder is that table in words.
enum class Permission {
  kRead,            // models, releases, contributions, tags, suites, queue
  kPull,            // bytes of releases
  kUpload,          // send bytes
  kPush,            // contributions; withdraw one's own
  kComment,         // on contributions
  kReview,          // approve, reject, see exact scores, read updates
  kReplay,          // ask a worker to repeat a merge
  kManageQueue,     // hold, release, reorder
  kManageBatches,   // start merges
  kManageModels,    // create models, set policy
  kManageSuites,    // add suites
  kManageReleases,  // tags, rollback, revert, yank
  kCheckStore,      // admin check, admin stats
  kBackup,          // copies of the hub
  kListUsers,       // who there is
  kManageUsers,     // users, tokens, trust
  kWork,            // lease and complete jobs
};
absl::Span<const Permission> AllPermissions();
// "review contributions": completes "may not ...".
absl::string_view PermissionText(Permission permission);

// What the table says.
bool RoleAllows(v1::User::Role role, Permission permission);

// OK when the caller may do this to `model` (models/M; empty for what concerns
// the hub as a whole, which a role for one model never allows).
// UNAUTHENTICATED for an anonymous caller, PERMISSION_DENIED with
// NOT_PERMITTED otherwise. Call it before anything is said about the state of
// the resource.
absl::Status Authorize(const Caller& caller, Permission permission,
                       absl::string_view model);

// The same for kRead and kPull, which anybody has on a public model. A model
// that does not exist is judged as one that is not public.
absl::Status AuthorizeRead(const HubReader& reader, const Caller& caller,
                           Permission permission, absl::string_view model);

}  // namespace cairn

#endif  // CAIRN_SERVER_AUTH_PERMISSION_H_
