#include "server/queue/hub_line_service.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/gate/contribution_view.h"
#include "server/queue/candidate.h"
#include "server/queue/line.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::LineStep;
using store::v1::ReleaseRecord;
using store::v1::ReplayRecord;

constexpr size_t kNoteBytesMax = 4096;

absl::Status CheckNote(absl::string_view note) {
  if (note.empty() || note.size() > kNoteBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("note must say why, in 1 to ", kNoteBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

// The record of a new revert of `contribution`.
absl::StatusOr<BatchRecord> MakeRevert(HubTransaction& transaction,
                                       const std::string& model,
                                       const std::string& contribution,
                                       const Caller& caller,
                                       const std::string& note) {
  CAIRN_ASSIGN_OR_RETURN(
      int64_t number, transaction.NextNumber(absl::StrCat(model, "/batches")));
  BatchRecord record;
  v1::Batch& batch = *record.mutable_batch();
  batch.set_name(absl::StrCat(model, "/batches/b", number));
  batch.set_purpose(v1::Batch::REVERT);
  batch.add_contributions(contribution);
  *batch.mutable_create_time() = ToTimestamp(transaction.now());
  record.set_model(model);
  record.set_actor(caller.user);
  record.set_note(note);
  CAIRN_RETURN_IF_ERROR(Move(record, v1::Batch::FORMING, transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  return record;
}

}  // namespace

absl::StatusOr<v1::Replay> HubLineService::StartReplay(
    const Caller& caller, const v1::StartReplayRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ReleaseName::Parse(request.name()));
  v1::Replay started;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto replayed, transaction.Replayed<v1::Replay>(
                                              caller.user, "StartReplay",
                                              request.request_id(), request));
    if (replayed.has_value()) {
      started = *std::move(replayed);
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto release,
                           transaction.Get<ReleaseRecord>(name.full()));
    CAIRN_ASSIGN_OR_RETURN(LinePlan plan, PlanReplay(release));
    CAIRN_ASSIGN_OR_RETURN(auto start,
                           transaction.Get<ReleaseRecord>(plan.start));
    CAIRN_ASSIGN_OR_RETURN(int64_t number, transaction.NextNumber(absl::StrCat(
                                               name.full(), "/replays")));
    ReplayRecord record;
    record.mutable_replay()->set_name(
        absl::StrCat(name.full(), "/replays/r", number));
    for (LineStep& step : plan.remaining) {
      *record.add_remaining() = std::move(step);
    }
    auto& reached = *record.mutable_reached();
    reached.set_release(start.release().name());
    reached.set_tensor_manifest_sha256(
        start.release().tensor_manifest_sha256());
    reached.set_digest(start.release().digest());
    CAIRN_RETURN_IF_ERROR(transaction.Put(record));
    started = record.replay();
    return transaction.Remember(caller.user, "StartReplay",
                                request.request_id(), request, started);
  });
  if (!committed.ok()) return committed;
  return started;
}

absl::StatusOr<v1::Replay> HubLineService::GetReplay(
    const v1::GetReplayRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, ReplayName::Parse(request.name()));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         store_.Read().Get<ReplayRecord>(name.full()));
  return record.replay();
}

absl::StatusOr<v1::Batch> HubLineService::RevertContribution(
    const Caller& caller, const v1::RevertContributionRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(CheckNote(request.note()));
  const std::string model = name.model().full();
  v1::Batch out;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto replayed, transaction.Replayed<v1::Batch>(
                                              caller.user, "RevertContribution",
                                              request.request_id(), request));
    if (replayed.has_value()) {
      out = *std::move(replayed);
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           transaction.Get<ContributionRecord>(name.full()));
    if (record.contribution().state() != v1::Contribution::RELEASED) {
      return absl::FailedPreconditionError(absl::StrCat(
          name.full(), " is ",
          v1::Contribution::State_Name(record.contribution().state()),
          "; only what is RELEASED can be reverted"));
    }
    BatchRecord batch;
    if (!record.revert_batch().empty()) {
      CAIRN_ASSIGN_OR_RETURN(
          batch, transaction.Get<BatchRecord>(record.revert_batch()));
    } else {
      CAIRN_ASSIGN_OR_RETURN(auto head, transaction.Head(model));
      CAIRN_RETURN_IF_ERROR(PlanWithout(head, name.full()).status());
      CAIRN_ASSIGN_OR_RETURN(batch, MakeRevert(transaction, model, name.full(),
                                               caller, request.note()));
      record.set_revert_batch(batch.batch().name());
      CAIRN_RETURN_IF_ERROR(transaction.Put(record));
      v1::Event event;
      event.set_kind("batch.started");
      event.set_subject(batch.batch().name());
      event.set_actor(caller.user);
      event.set_message(absl::StrCat("takes ", name.full(),
                                     " out of the line: ", request.note()));
      event.add_related(name.full());
      CAIRN_RETURN_IF_ERROR(transaction.AppendEvent(model, std::move(event)));
    }
    out = batch.batch();
    return transaction.Remember(caller.user, "RevertContribution",
                                request.request_id(), request, out);
  });
  if (!committed.ok()) return committed;
  return out;
}

absl::StatusOr<int> ReplayStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto open,
                         snapshot.FindBy<ReplayRecord>(kOpenReplay, ""));
  int moved = 0;
  for (const ReplayRecord& record : open) {
    auto did = Advance(record);
    if (!did.ok()) {
      CAIRN_LOG(kError, record.replay().name(), ": ", did.status().ToString());
    } else if (*did) {
      ++moved;
    }
  }
  return moved;
}

absl::StatusOr<bool> ReplayStage::Advance(ReplayRecord record) {
  if (record.remaining().empty()) {
    const std::string digest = record.reached().digest();
    return Finish(std::move(record), digest);
  }
  const bool is_last = record.remaining_size() == 1;
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(
      auto files, snapshot.Get<ReleaseRecord>(record.reached().release()));
  if (record.job().empty()) {
    JobRequest request{.model = std::string(ModelOf(record.replay().name())),
                       .subject = record.replay().name()};
    CAIRN_ASSIGN_OR_RETURN(
        request.spec,
        MakeMergeSpec(
            snapshot, MakeModelInput(files, record.reached()),
            record.remaining(0),
            is_last ? v1::MergeSpec::DIGEST_ONLY : v1::MergeSpec::UPLOAD));
    absl::Status asked = store_.Transact([&](HubTransaction& transaction) {
      ReplayRecord next = record;
      CAIRN_ASSIGN_OR_RETURN(*next.mutable_job(),
                             EnqueueJob(transaction, request));
      return transaction.Put(next);
    });
    if (!asked.ok()) return asked;
    return true;
  }
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs_, record.job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return Fail(std::move(record), outcome.failure);
  }
  if (is_last) {
    return Finish(std::move(record), outcome.result.merge().digest());
  }
  auto candidate =
      TakeCandidate(blobs_, files, outcome.job.spec().merge(), outcome.result);
  if (!candidate.ok()) {
    return Fail(std::move(record), ReasonOf(candidate.status()));
  }
  *record.mutable_reached() = *std::move(candidate);
  record.mutable_remaining()->erase(record.remaining().begin());
  record.clear_job();
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    ReplayRecord next = record;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> ReplayStage::Finish(ReplayRecord record,
                                         const std::string& digest) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ReplayName::Parse(record.replay().name()));
  CAIRN_ASSIGN_OR_RETURN(
      auto release, store_.Read().Get<ReleaseRecord>(name.release().full()));
  record.mutable_replay()->set_done(true);
  record.mutable_replay()->set_digest(digest);
  record.mutable_replay()->set_matches(digest == release.release().digest());
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    ReplayRecord next = record;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> ReplayStage::Fail(ReplayRecord record,
                                       const v1::Reason& reason) {
  record.mutable_replay()->set_done(true);
  *record.mutable_replay()->add_reasons() = reason;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    ReplayRecord next = record;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
