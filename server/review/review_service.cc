#include "server/review/review_service.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/gate/contribution_view.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::ModelRecord;

constexpr size_t kTextBytesMax = 4096;
constexpr int kCommentsMax = 1000;
constexpr size_t kExpiredAPass = 100;

absl::Status CheckText(absl::string_view field, absl::string_view text,
                       bool may_be_empty) {
  if (text.size() > kTextBytesMax || (text.empty() && !may_be_empty)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " must have ", may_be_empty ? 0 : 1, " to ",
                     kTextBytesMax, " bytes; it has ", text.size()));
  }
  return absl::OkStatus();
}

// The contribution as it must be to be decided on by `caller`.
absl::StatusOr<ContributionRecord> ReadForDecision(
    const HubReader& reader, const Caller& caller,
    const v1::ReviewRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         reader.Get<ContributionRecord>(name.full()));
  const v1::Contribution& contribution = record.contribution();
  if (contribution.author() == caller.user) {
    return ReasonedError(
        absl::StatusCode::kPermissionDenied, "NOT_PERMITTED",
        absl::StrCat(caller.user, " is the author of ", name.full(),
                     "; somebody else has to decide on it"));
  }
  if (contribution.state() != v1::Contribution::NEEDS_REVIEW) {
    return absl::FailedPreconditionError(absl::StrCat(
        name.full(), " is ", v1::Contribution::State_Name(contribution.state()),
        "; only what is NEEDS_REVIEW is decided by people"));
  }
  if (request.etag().empty() || request.digest().empty()) {
    return absl::InvalidArgumentError(
        "etag and digest of what was reviewed are required; read it with "
        "GetReview");
  }
  CAIRN_RETURN_IF_ERROR(
      CheckEtag(name.full(), contribution.etag(), request.etag()));
  if (request.digest() != contribution.digest()) {
    return ReasonedError(
        absl::StatusCode::kAborted, "ETAG_MISMATCH",
        absl::StrCat("the reviewed update has the digest ", request.digest(),
                     ", but that of ", name.full(), " is ",
                     contribution.digest()));
  }
  std::set<std::string> known;
  for (const v1::Report& report : contribution.reports()) {
    known.insert(report.id());
  }
  for (const std::string& id : request.report_ids()) {
    if (!known.contains(id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("report_ids: ", name.full(), " has no report ", id));
    }
  }
  return record;
}

v1::Verdict Decision(const Caller& caller, const v1::ReviewRequest& request,
                     v1::Verdict::Decision decision, absl::Time now) {
  std::vector<v1::Reason> reasons;
  if (!request.note().empty()) {
    reasons.push_back(MakeReason(v1::Reason::REVIEWER, request.note()));
  }
  v1::Verdict verdict = MakeVerdict("review", decision, reasons, now);
  verdict.set_reviewer(caller.user);
  return verdict;
}

absl::Status Announce(HubTransaction& transaction,
                      const ContributionRecord& record, absl::string_view kind,
                      const Caller& caller, absl::string_view message) {
  v1::Event event;
  event.set_kind(std::string(kind));
  event.set_subject(record.contribution().name());
  event.set_actor(caller.user);
  event.set_message(std::string(message));
  return transaction.AppendEvent(record.model(), std::move(event));
}

// Counts the vote; true when enough people approved.
absl::StatusOr<bool> Count(HubTransaction& transaction, const Caller& caller,
                           const v1::ReviewRequest& request,
                           ContributionRecord& record) {
  v1::Contribution& contribution = *record.mutable_contribution();
  store::v1::Vote& vote = *record.add_votes();
  vote.set_reviewer(caller.user);
  vote.set_digest(request.digest());
  *vote.mutable_report_ids() = request.report_ids();
  contribution.add_approvals(caller.user);
  CAIRN_ASSIGN_OR_RETURN(auto model,
                         transaction.Get<ModelRecord>(record.model()));
  return contribution.approvals_size() >=
         std::max(1, model.model().policy().approvals());
}

}  // namespace

absl::StatusOr<v1::Contribution> ReviewService::Get(
    const Caller& caller, const v1::GetReviewRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         snapshot.Get<ContributionRecord>(name.full()));
  return ViewContribution(snapshot, workers_, record, Figures::kExact,
                          caller.user, store_.clock().Now());
}

absl::StatusOr<v1::Contribution> ReviewService::Approve(
    const Caller& caller, const v1::ReviewRequest& request) {
  CAIRN_RETURN_IF_ERROR(CheckText("note", request.note(), true));
  v1::Contribution out;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           ReadForDecision(transaction, caller, request));
    v1::Contribution& contribution = *record.mutable_contribution();
    const auto& approvals = contribution.approvals();
    if (std::find(approvals.begin(), approvals.end(), caller.user) ==
        approvals.end()) {
      CAIRN_ASSIGN_OR_RETURN(bool is_enough,
                             Count(transaction, caller, request, record));
      *contribution.add_verdicts() =
          Decision(caller, request, v1::Verdict::PASS, transaction.now());
      if (is_enough) {
        CAIRN_ASSIGN_OR_RETURN(
            int64_t position,
            transaction.NextNumber(absl::StrCat(record.model(), "/queue")));
        record.set_queue_position(position);
        *record.mutable_waiting_since() = ToTimestamp(transaction.now());
        CAIRN_RETURN_IF_ERROR(
            Move(record, v1::Contribution::QUEUED, transaction.now()));
      }
      CAIRN_RETURN_IF_ERROR(transaction.Put(record));
      CAIRN_RETURN_IF_ERROR(Announce(transaction, record,
                                     "contribution.approved", caller,
                                     request.note()));
    }
    CAIRN_ASSIGN_OR_RETURN(
        out, ViewContribution(transaction, workers_, record, Figures::kExact,
                              caller.user, transaction.now()));
    return absl::OkStatus();
  });
  if (!committed.ok()) return committed;
  return out;
}

absl::StatusOr<v1::Contribution> ReviewService::Reject(
    const Caller& caller, const v1::ReviewRequest& request) {
  v1::Contribution out;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           ReadForDecision(transaction, caller, request));
    CAIRN_RETURN_IF_ERROR(CheckText("note", request.note(), false));
    *record.mutable_contribution()->add_verdicts() =
        Decision(caller, request, v1::Verdict::FAIL, transaction.now());
    CAIRN_RETURN_IF_ERROR(
        Move(record, v1::Contribution::REJECTED, transaction.now()));
    CAIRN_RETURN_IF_ERROR(transaction.Put(record));
    CAIRN_RETURN_IF_ERROR(Announce(transaction, record, "contribution.rejected",
                                   caller, request.note()));
    CAIRN_ASSIGN_OR_RETURN(
        out, ViewContribution(transaction, workers_, record, Figures::kExact,
                              caller.user, transaction.now()));
    return absl::OkStatus();
  });
  if (!committed.ok()) return committed;
  return out;
}

absl::StatusOr<v1::Contribution> ReviewService::AddComment(
    const Caller& caller, const v1::AddCommentRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(auto name, ContributionName::Parse(request.name()));
  CAIRN_RETURN_IF_ERROR(CheckText("text", request.text(), false));
  v1::Contribution out;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(
        auto replayed,
        transaction.Replayed<v1::Contribution>(caller.user, "AddComment",
                                               request.request_id(), request));
    CAIRN_ASSIGN_OR_RETURN(auto record,
                           transaction.Get<ContributionRecord>(name.full()));
    v1::Contribution& contribution = *record.mutable_contribution();
    if (!replayed.has_value()) {
      if (contribution.comments_size() >= kCommentsMax) {
        return ReasonedError(absl::StatusCode::kFailedPrecondition,
                             "LIMIT_EXCEEDED",
                             absl::StrCat(name.full(), " has ", kCommentsMax,
                                          " comments and takes no more"));
      }
      v1::Comment& comment = *contribution.add_comments();
      comment.set_author(caller.user);
      comment.set_text(request.text());
      *comment.mutable_create_time() = ToTimestamp(transaction.now());
      CAIRN_RETURN_IF_ERROR(transaction.Put(record));
      CAIRN_RETURN_IF_ERROR(Announce(transaction, record,
                                     "contribution.commented", caller,
                                     request.text()));
      v1::Contribution answered;
      answered.set_name(name.full());
      CAIRN_RETURN_IF_ERROR(transaction.Remember(
          caller.user, "AddComment", request.request_id(), request, answered));
    }
    CAIRN_ASSIGN_OR_RETURN(
        out, ViewContribution(transaction, workers_, record, Figures::kRounded,
                              caller.user, transaction.now()));
    return absl::OkStatus();
  });
  if (!committed.ok()) return committed;
  return out;
}

absl::StatusOr<int> ReviewExpiryStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto waiting,
                         snapshot.FindBy<ContributionRecord>(
                             kContributionByState, "NEEDS_REVIEW", 10'000));
  const absl::Time now = store_.clock().Now();
  std::erase_if(waiting, [&](const ContributionRecord& record) {
    return now - FromTimestamp(record.waiting_since()) < expire_after_;
  });
  if (waiting.size() > kExpiredAPass) waiting.resize(kExpiredAPass);
  int moved = 0;
  for (const ContributionRecord& record : waiting) {
    const std::string name = record.contribution().name();
    absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
      CAIRN_ASSIGN_OR_RETURN(auto next,
                             transaction.Get<ContributionRecord>(name));
      if (next.contribution().state() != v1::Contribution::NEEDS_REVIEW) {
        return absl::OkStatus();
      }
      *next.mutable_contribution()->add_verdicts() = MakeVerdict(
          "review", v1::Verdict::FAIL,
          {MakeReason(v1::Reason::POLICY,
                      absl::StrCat("nobody decided within ",
                                   absl::FormatDuration(expire_after_),
                                   "; push again if it is still wanted"))},
          transaction.now());
      CAIRN_RETURN_IF_ERROR(
          Move(next, v1::Contribution::WITHDRAWN, transaction.now()));
      CAIRN_RETURN_IF_ERROR(transaction.Put(next));
      return Announce(transaction, next, "contribution.withdrawn",
                      Caller{.user = "hub"}, "nobody decided in time");
    });
    if (!committed.ok()) return committed;
    ++moved;
  }
  return moved;
}

}  // namespace cairn
