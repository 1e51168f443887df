#include "server/release/release_catalog.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/resource_names.h"
#include "server/release/release_resolver.h"

namespace cairn {
namespace {

using store::v1::ReleaseRecord;

constexpr size_t kNoteMax = 4096;

absl::Status CheckNote(absl::string_view note) {
  if (!note.empty() && note.size() <= kNoteMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("note is ", note.empty() ? "empty" : "too long",
                   "; say why in at most ", kNoteMax, " bytes"));
}

}  // namespace

absl::StatusOr<v1::Release> ReleaseCatalog::Get(
    const Caller& caller, const v1::GetReleaseRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ReleaseName name, ReleaseName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, ResolveRelease(snapshot, name));
  return record.release();
}

absl::StatusOr<v1::ListReleasesResponse> ReleaseCatalog::List(
    const Caller& caller, const v1::ListReleasesRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, model.full()));
  CAIRN_RETURN_IF_ERROR(snapshot.Get<store::v1::ModelRecord>(model.full()));
  CAIRN_ASSIGN_OR_RETURN(auto page,
                         snapshot.List<ReleaseRecord>(
                             ReleaseName::Parent(model),
                             {request.page_size(), request.page_token()}));
  v1::ListReleasesResponse response;
  for (auto& record : page.records) {
    *response.add_items() = std::move(*record.mutable_release());
  }
  response.set_next_page_token(page.next_token);
  return response;
}

absl::StatusOr<v1::Release> ReleaseCatalog::Match(
    const Caller& caller, const v1::MatchReleaseRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(request.parent()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(snapshot, caller, Permission::kRead, model.full()));
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request.digest()));
  CAIRN_ASSIGN_OR_RETURN(
      auto found,
      snapshot.FindBy<ReleaseRecord>(
          kReleaseByDigest, ReleaseIndexValue(model.full(), digest.hex())));
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat(
        model.full(), " has no release of digest ", digest.prefixed()));
  }
  return found.back().release();
}

absl::StatusOr<v1::Release> ReleaseCatalog::Yank(
    const Caller& caller, const v1::YankReleaseRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseName name, ReleaseName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageReleases, name.model().full()));
  CAIRN_RETURN_IF_ERROR(CheckNote(request.note()));
  v1::Release release;
  absl::Status yanked =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto record, ResolveRelease(txn, name));
        if (record.release().yanked() != request.note()) {
          record.mutable_release()->set_yanked(request.note());
          CAIRN_RETURN_IF_ERROR(txn.Put(record));
          v1::Event event;
          event.set_kind("release.yanked");
          event.set_subject(record.release().name());
          event.set_actor(caller.user);
          event.set_message(request.note());
          CAIRN_RETURN_IF_ERROR(
              txn.AppendEvent(name.model().full(), std::move(event)));
        }
        release = record.release();
        return absl::OkStatus();
      });
  if (!yanked.ok()) return yanked;
  return release;
}

absl::StatusOr<v1::Replay> ReleaseCatalog::StartReplay(
    const Caller& caller, const v1::StartReplayRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseName name, ReleaseName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kReplay, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, ResolveRelease(store_.Read(), name));
  v1::StartReplayRequest resolved = request;
  resolved.set_name(record.release().name());
  return line_.StartReplay(caller, resolved);
}

absl::StatusOr<v1::Replay> ReleaseCatalog::GetReplay(
    const Caller& caller, const v1::GetReplayRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(ReplayName name, ReplayName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(AuthorizeRead(store_.Read(), caller, Permission::kRead,
                                      name.release().model().full()));
  return line_.GetReplay(request);
}

absl::StatusOr<v1::Batch> ReleaseCatalog::Revert(
    const Caller& caller, const v1::RevertContributionRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ContributionName name,
                         ContributionName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(
      Authorize(caller, Permission::kManageReleases, name.model().full()));
  CAIRN_RETURN_IF_ERROR(CheckNote(request.note()));
  return line_.RevertContribution(caller, request);
}

}  // namespace cairn
