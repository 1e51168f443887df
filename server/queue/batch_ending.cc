#include "server/queue/batch_ending.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/reasons.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;

// Tells what became of a member.
absl::Status Announce(HubTransaction& transaction, const BatchRecord& batch,
                      absl::string_view kind, absl::string_view subject,
                      absl::string_view message,
                      const std::vector<std::string>& related = {}) {
  v1::Event event;
  event.set_kind(std::string(kind));
  event.set_subject(std::string(subject));
  event.set_actor(batch.actor());
  event.set_message(std::string(message));
  event.add_related(batch.batch().name());
  for (const std::string& name : related) event.add_related(name);
  return transaction.AppendEvent(batch.model(), std::move(event));
}

// The member if the batch still has it.
absl::StatusOr<std::optional<ContributionRecord>> MemberOf(
    const HubTransaction& transaction, const BatchRecord& batch,
    absl::string_view contribution) {
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         transaction.Get<ContributionRecord>(contribution));
  if (record.contribution().state() != v1::Contribution::BATCHED ||
      record.contribution().batch() != batch.batch().name()) {
    return std::optional<ContributionRecord>();
  }
  return std::optional<ContributionRecord>(std::move(record));
}

void AddVerdict(ContributionRecord& record, v1::Verdict::Decision decision,
                const std::vector<v1::Reason>& reasons, absl::Time now) {
  *record.mutable_contribution()->add_verdicts() =
      MakeVerdict("batch", decision, reasons, now);
}

}  // namespace

v1::Reason AuditFailed() {
  return MakeReason(v1::Reason::SUITE_REGRESSED,
                    "the merge passed its gate and lost too much in the audit; "
                    "reviewers see where at the batch");
}

absl::Status ReturnToQueue(HubTransaction& transaction,
                           const BatchRecord& batch,
                           absl::string_view contribution, Requeue how,
                           const v1::Reason& why) {
  CAIRN_ASSIGN_OR_RETURN(auto member,
                         MemberOf(transaction, batch, contribution));
  if (!member.has_value()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(
      Move(*member, v1::Contribution::QUEUED, transaction.now()));
  member->mutable_contribution()->clear_batch();
  member->mutable_contribution()->set_held(how == Requeue::kHeld);
  *member->mutable_waiting_since() = ToTimestamp(transaction.now());
  AddVerdict(*member, v1::Verdict::REVIEW, {why}, transaction.now());
  CAIRN_RETURN_IF_ERROR(transaction.Put(*member));
  return Announce(transaction, batch, "contribution.queued", contribution,
                  absl::StrCat("back in the queue",
                               how == Requeue::kHeld ? ", on hold: " : ": ",
                               WithoutItems(why).message()));
}

absl::Status SendToReview(HubTransaction& transaction, const BatchRecord& batch,
                          absl::string_view contribution,
                          const std::vector<v1::Reason>& reasons) {
  CAIRN_ASSIGN_OR_RETURN(auto member,
                         MemberOf(transaction, batch, contribution));
  if (!member.has_value()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(
      Move(*member, v1::Contribution::NEEDS_REVIEW, transaction.now()));
  member->mutable_contribution()->clear_batch();
  // Votes were for what was known before.
  member->mutable_contribution()->clear_approvals();
  member->clear_votes();
  *member->mutable_waiting_since() = ToTimestamp(transaction.now());
  AddVerdict(*member, v1::Verdict::REVIEW, reasons, transaction.now());
  CAIRN_RETURN_IF_ERROR(transaction.Put(*member));
  return Announce(transaction, batch, "contribution.needs_review", contribution,
                  "its batch failed; a reviewer decides");
}

absl::Status RejectCulprit(HubTransaction& transaction,
                           const BatchRecord& batch,
                           absl::string_view contribution,
                           const std::vector<v1::Reason>& reasons) {
  CAIRN_ASSIGN_OR_RETURN(auto member,
                         MemberOf(transaction, batch, contribution));
  if (!member.has_value()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(
      Move(*member, v1::Contribution::REJECTED, transaction.now()));
  std::vector<v1::Reason> all = {MakeReason(
      v1::Reason::BATCH_CULPRIT,
      absl::StrCat("merged alone into ", batch.head(),
                   " it fails the gate; train it on that release and push "
                   "again"))};
  all.insert(all.end(), reasons.begin(), reasons.end());
  AddVerdict(*member, v1::Verdict::FAIL, all, transaction.now());
  CAIRN_RETURN_IF_ERROR(transaction.Put(*member));
  return Announce(transaction, batch, "contribution.rejected", contribution,
                  all.front().message());
}

absl::Status MarkReleased(HubTransaction& transaction, const BatchRecord& batch,
                          absl::string_view contribution,
                          absl::string_view release) {
  CAIRN_ASSIGN_OR_RETURN(auto member,
                         MemberOf(transaction, batch, contribution));
  if (!member.has_value()) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(
      Move(*member, v1::Contribution::RELEASED, transaction.now()));
  member->mutable_contribution()->set_release(std::string(release));
  AddVerdict(*member, v1::Verdict::PASS, {}, transaction.now());
  CAIRN_RETURN_IF_ERROR(transaction.Put(*member));
  return Announce(transaction, batch, "contribution.released", contribution,
                  absl::StrCat("is part of ", release), {std::string(release)});
}

absl::Status MarkReverted(HubTransaction& transaction, const BatchRecord& batch,
                          absl::string_view contribution,
                          absl::string_view release) {
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         transaction.Get<ContributionRecord>(contribution));
  CAIRN_RETURN_IF_ERROR(
      Move(record, v1::Contribution::REVERTED, transaction.now()));
  record.clear_revert_batch();
  v1::Verdict verdict = MakeVerdict(
      "review", v1::Verdict::FAIL,
      {MakeReason(v1::Reason::REVIEWER, batch.note())}, transaction.now());
  verdict.set_reviewer(batch.actor());
  *record.mutable_contribution()->add_verdicts() = std::move(verdict);
  CAIRN_RETURN_IF_ERROR(transaction.Put(record));
  return Announce(
      transaction, batch, "contribution.reverted", contribution,
      absl::StrCat("taken out of the line by ", release, ": ", batch.note()),
      {std::string(release)});
}

absl::Status FailBatch(HubTransaction& transaction, BatchRecord& batch,
                       const std::vector<v1::Reason>& reasons) {
  CAIRN_RETURN_IF_ERROR(Move(batch, v1::Batch::FAILED, transaction.now()));
  CAIRN_RETURN_IF_ERROR(
      CancelJob(transaction, batch.attribution_job(), "the batch failed"));
  for (const v1::Reason& reason : reasons) {
    *batch.mutable_batch()->add_reasons() = reason;
  }
  CAIRN_RETURN_IF_ERROR(transaction.Put(batch));
  // What the gate said of a suite is not for everybody who watches.
  return Announce(transaction, batch, "batch.failed", batch.batch().name(),
                  reasons.empty()                   ? "failed"
                  : reasons.front().suite().empty() ? reasons.front().message()
                                                    : "refused by the gate");
}

absl::Status FinishBatch(HubTransaction& transaction, BatchRecord& batch,
                         absl::string_view release) {
  CAIRN_RETURN_IF_ERROR(Move(batch, v1::Batch::PUBLISHED, transaction.now()));
  batch.mutable_batch()->set_release(std::string(release));
  CAIRN_RETURN_IF_ERROR(transaction.Put(batch));
  return Announce(transaction, batch, "batch.published", batch.batch().name(),
                  absl::StrCat("became ", release), {std::string(release)});
}

}  // namespace cairn
