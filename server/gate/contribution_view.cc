#include "server/gate/contribution_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/gate/attribution.h"
#include "server/gate/gate.h"
#include "server/gate/holdout.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::LedgerRecord;
using store::v1::ModelRecord;
using store::v1::SuiteRecord;

std::string Day(absl::Time now) {
  return absl::FormatTime("%Y-%m-%d", now, absl::UTCTimeZone());
}

LedgerRecord LedgerKey(absl::string_view user, absl::string_view model,
                       absl::Time now) {
  LedgerRecord record;
  record.set_user(std::string(user));
  record.set_model(std::string(model));
  record.set_day(Day(now));
  return record;
}

absl::StatusOr<std::string> JobWaitsFor(const HubReader& reader,
                                        const WorkerPresence& workers,
                                        absl::string_view job) {
  if (job.empty()) return std::string();
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Find<JobRecord>(job));
  return record.has_value() ? WaitingFor(workers, *record) : std::string();
}

// The job that a batch waits for now; empty when there is none.
std::string CurrentJob(const BatchRecord& record) {
  switch (record.batch().state()) {
    case v1::Batch::MERGING:
    case v1::Batch::EVALUATING:
    case v1::Batch::BISECTING:
      break;
    default:
      return "";
  }
  if (record.gated() && !record.attribution_job().empty()) {
    return record.attribution_job();
  }
  if (!record.audit_job().empty()) return record.audit_job();
  if (!record.gate_job().empty()) return record.gate_job();
  if (!record.merge_job().empty()) return record.merge_job();
  for (const auto& trial : record.trials()) {
    if (trial.outcome() == store::v1::TrialRecord::OUTCOME_UNSPECIFIED) {
      return trial.job();
    }
  }
  return record.search_job();
}

absl::StatusOr<std::string> SuitesWaitFor(const HubReader& reader,
                                          const WorkerPresence& workers,
                                          absl::string_view model) {
  CAIRN_ASSIGN_OR_RETURN(auto suites, reader.NewestSuites(model));
  for (const SuiteRecord& suite : suites) {
    if (suite.suite().state() != v1::Suite::CHECKING) continue;
    CAIRN_ASSIGN_OR_RETURN(std::string more,
                           JobWaitsFor(reader, workers, suite.job()));
    return absl::StrCat("suite ", ShortName(suite.suite().name()),
                        " to be checked on the head",
                        more.empty() ? "" : ", which waits for ", more);
  }
  return std::string();
}

absl::StatusOr<std::string> ContributionWaitsFor(
    const HubReader& reader, const WorkerPresence& workers,
    const ContributionRecord& record) {
  const v1::Contribution& contribution = record.contribution();
  if (contribution.state() == v1::Contribution::SCREENED) {
    if (!record.job().empty()) {
      return JobWaitsFor(reader, workers, record.job());
    }
    return SuitesWaitFor(reader, workers, record.model());
  }
  if (contribution.state() == v1::Contribution::BATCHED) {
    CAIRN_ASSIGN_OR_RETURN(auto batch,
                           reader.Find<BatchRecord>(contribution.batch()));
    if (batch.has_value()) {
      return JobWaitsFor(reader, workers, CurrentJob(*batch));
    }
  }
  return std::string();
}

template <typename Message>
void RoundReports(Message& message) {
  for (v1::Report& report : *message.mutable_reports()) {
    report = Rounded(report);
  }
}

// What the gate answered to the author is charged to the author's organisation
// and is not for others to read.
void HideAnswers(v1::Contribution& view) {
  for (v1::Report& report : *view.mutable_reports()) {
    report.clear_told_gain();
    report.clear_gain();
    report.clear_rounding_step();
  }
  for (v1::Verdict& verdict : *view.mutable_verdicts()) {
    if (verdict.stage() == "gate") verdict.clear_reasons();
    if (verdict.stage() == "batch") {
      auto& reasons = *verdict.mutable_reasons();
      reasons.erase(std::remove_if(reasons.begin(), reasons.end(),
                                   [](const v1::Reason& reason) {
                                     return !reason.suite().empty();
                                   }),
                    reasons.end());
    }
  }
}

// What the gate said of a merge and a suite is charged to those whose
// contributions were in it, and each reads it there; everybody may read which
// sets passed.
void HideAnswers(v1::Batch& view) {
  for (v1::Reason& reason : *view.mutable_reasons()) {
    reason = WithoutItems(reason);
    reason.clear_measured();
    if (reason.suite().empty()) continue;
    reason.clear_suite();
    reason.clear_limit();
    reason.set_message(
        "the gate refused the merge; authors see why at their contributions");
  }
  for (std::string& step : *view.mutable_bisection()) {
    if (const size_t why = step.find(": fails: "); why != std::string::npos) {
      step.resize(why + std::string(": fails").size());
    }
  }
}

// Attempts charged to a user or an organisation today.
absl::StatusOr<int32_t> AttemptsUsed(const HubReader& reader,
                                     absl::string_view who,
                                     absl::string_view model, absl::Time now) {
  CAIRN_ASSIGN_OR_RETURN(
      auto found, reader.Find<LedgerRecord>(
                      Table<LedgerRecord>::Name(LedgerKey(who, model, now))));
  return found.has_value() ? found->attempts() : 0;
}

absl::Status Charge(HubTransaction& transaction, absl::string_view who,
                    absl::string_view model) {
  LedgerRecord record = LedgerKey(who, model, transaction.now());
  CAIRN_ASSIGN_OR_RETURN(auto found, transaction.Find<LedgerRecord>(
                                         Table<LedgerRecord>::Name(record)));
  if (found.has_value()) record = *std::move(found);
  record.set_attempts(record.attempts() + 1);
  return transaction.Put(record);
}

}  // namespace

absl::StatusOr<v1::Contribution> ViewContribution(
    const HubReader& reader, const WorkerPresence& workers,
    const ContributionRecord& record, Figures figures, absl::string_view viewer,
    absl::Time now) {
  v1::Contribution view = record.contribution();
  const bool is_author =
      !viewer.empty() && absl::string_view(view.author()) == viewer;
  if (figures == Figures::kRounded) {
    RoundReports(view);
    for (v1::Verdict& verdict : *view.mutable_verdicts()) {
      verdict = WithoutFigures(verdict);
    }
    if (!is_author) HideAnswers(view);
  }
  CAIRN_ASSIGN_OR_RETURN(std::string waiting_for,
                         ContributionWaitsFor(reader, workers, record));
  view.set_waiting_for(waiting_for);
  if (is_author) {
    CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(record.model()));
    CAIRN_ASSIGN_OR_RETURN(int32_t left,
                           AttemptsLeft(reader, viewer, record.model(),
                                        model.model().policy(), now));
    view.set_attempts_left(left);
  }
  return view;
}

absl::StatusOr<v1::Batch> ViewBatch(const HubReader& reader,
                                    const WorkerPresence& workers,
                                    const BatchRecord& record,
                                    Figures figures) {
  v1::Batch view = record.batch();
  if (figures == Figures::kRounded) {
    RoundReports(view);
    view.clear_search();
    if (view.has_attribution()) {
      *view.mutable_attribution() = Rounded(view.attribution());
    }
    HideAnswers(view);
  }
  CAIRN_ASSIGN_OR_RETURN(std::string waiting_for,
                         JobWaitsFor(reader, workers, CurrentJob(record)));
  view.set_waiting_for(waiting_for);
  return view;
}

absl::StatusOr<int32_t> AttemptsLeft(const HubReader& reader,
                                     absl::string_view user,
                                     absl::string_view model,
                                     const v1::Policy& policy, absl::Time now) {
  CAIRN_ASSIGN_OR_RETURN(int32_t used, AttemptsUsed(reader, user, model, now));
  int32_t left = policy.attempts_per_day() - used;
  CAIRN_ASSIGN_OR_RETURN(std::string organisation,
                         OrganisationOf(reader, user));
  if (absl::string_view(organisation) != user &&
      policy.organisation_attempts_per_day() > 0) {
    CAIRN_ASSIGN_OR_RETURN(used,
                           AttemptsUsed(reader, organisation, model, now));
    left = std::min(left, policy.organisation_attempts_per_day() - used);
  }
  return std::max(left, 0);
}

absl::Status ChargeAttempt(HubTransaction& transaction, absl::string_view user,
                           absl::string_view model) {
  CAIRN_RETURN_IF_ERROR(Charge(transaction, user, model));
  CAIRN_ASSIGN_OR_RETURN(std::string organisation,
                         OrganisationOf(transaction, user));
  if (absl::string_view(organisation) == user) return absl::OkStatus();
  return Charge(transaction, organisation, model);
}

}  // namespace cairn
