#include "server/release/release_catalog.h"

#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/delta_records.h"
#include "server/flow/resource_names.h"
#include "server/release/release_resolver.h"

namespace cairn {
namespace {

using store::v1::DeltaRecord;
using store::v1::JobRecord;
using store::v1::ReleaseRecord;

constexpr size_t kNoteMax = 4096;
// Deltas that one release may have, and that may be made for a model at a
// time because somebody asked.
constexpr size_t kDeltasMax = 32;
constexpr size_t kOpenDeltasMax = 16;

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
  v1::Release release = std::move(*record.mutable_release());
  CAIRN_ASSIGN_OR_RETURN(
      auto deltas, snapshot.ListAll<DeltaRecord>(
                       absl::StrCat(release.name(), "/deltas/"), kDeltasMax));
  for (DeltaRecord& delta : deltas) {
    if (delta.delta().state() == v1::Delta::READY) {
      *release.add_deltas() = std::move(*delta.mutable_delta());
    }
  }
  return release;
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

absl::StatusOr<v1::Delta> ReleaseCatalog::RequestDelta(
    const Caller& caller, const v1::RequestDeltaRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(ReleaseName to, ReleaseName::Parse(request.name()));
  CAIRN_ASSIGN_OR_RETURN(ReleaseName from, ReleaseName::Parse(request.from()));
  if (from.model() != to.model()) {
    return absl::InvalidArgumentError(absl::StrCat("from is ", from.full(),
                                                   "; it must be a release of ",
                                                   to.model().full()));
  }
  CAIRN_RETURN_IF_ERROR(AuthorizeRead(store_.Read(), caller, Permission::kPull,
                                      to.model().full()));
  DeltaRecord record;
  absl::Status asked =
      store_.Transact([&](HubTransaction& txn) -> absl::Status {
        const std::string name = DeltaName(to.full(), from.full());
        CAIRN_ASSIGN_OR_RETURN(auto known, txn.Find<DeltaRecord>(name));
        if (known.has_value()) {
          record = *std::move(known);
          return absl::OkStatus();
        }
        CAIRN_ASSIGN_OR_RETURN(auto older, txn.Get<ReleaseRecord>(from.full()));
        CAIRN_ASSIGN_OR_RETURN(auto newer, txn.Get<ReleaseRecord>(to.full()));
        CAIRN_ASSIGN_OR_RETURN(
            auto open, txn.FindBy<DeltaRecord>(kOpenDelta, to.model().full()));
        CAIRN_ASSIGN_OR_RETURN(
            auto made, txn.ListAll<DeltaRecord>(
                           absl::StrCat(to.full(), "/deltas/"), kDeltasMax));
        if (open.size() >= kOpenDeltasMax || made.size() >= kDeltasMax) {
          return absl::ResourceExhaustedError(absl::StrCat(
              to.full(), " has ", made.size(), " deltas and its model ",
              open.size(), " under way; pull it whole, or ask later"));
        }
        CAIRN_ASSIGN_OR_RETURN(record, AskForDelta(txn, older, newer));
        return absl::OkStatus();
      });
  if (!asked.ok()) return asked;
  if (record.delta().state() == v1::Delta::PENDING) {
    CAIRN_ASSIGN_OR_RETURN(auto job,
                           store_.Read().Find<JobRecord>(record.job()));
    if (job.has_value()) {
      record.mutable_delta()->set_note(WaitingFor(workers_, *job));
    }
  }
  return record.delta();
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
