#include "server/vet/gate_stage.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/log.h"
#include "server/flow/contribution_state.h"
#include "server/flow/job_records.h"
#include "server/flow/reasons.h"
#include "server/gate/holdout.h"
#include "server/gate/look.h"
#include "server/gate/score_book.h"
#include "server/vet/evaluation_parts.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;

constexpr size_t kContributionsAPass = 1000;
constexpr char kGateSplit[] = "gate";
constexpr char kGivenUp[] =
    "the evaluation could not be completed; a reviewer decides whether to "
    "try again with a new push: ";

absl::Status Announce(HubTransaction& transaction,
                      const ContributionRecord& record,
                      absl::string_view message) {
  const auto& contribution = record.contribution();
  std::string state = v1::Contribution::State_Name(contribution.state());
  std::transform(state.begin(), state.end(), state.begin(), [](char c) {
    return static_cast<char>(c == '_' ? '_' : c | 0x20);
  });
  v1::Event event;
  event.set_kind(absl::StrCat("contribution.", state));
  event.set_subject(contribution.name());
  event.set_actor("hub");
  event.set_message(std::string(message));
  return transaction.AppendEvent(record.model(), std::move(event));
}

// What evaluation came to, before it is committed. What was measured is
// decided on when it is committed, by what the ledger says then.
struct Evaluated {
  GateDecision decision;         // when nothing could be measured
  std::vector<GateSuite> pairs;  // else, in the order of `suites`
  std::vector<SuiteRecord> suites;
  std::string device_class;
  // Which look it is, of an evaluation in parts; else all is there.
  int look = kLastLook;
  bool is_in_parts = false;
  // What to score next, before the last look; all of it when this look was made
  // on another kind of machine than the ones before.
  std::optional<v1::EvaluateSpec> next;
  bool begins_again = false;
  // To keep for the next evaluation against the same base.
  ScoreKey base_key;
  v1::EvaluateResult result;
};

GateDecision Undecided(v1::Reason::Code code, absl::string_view message) {
  return {.decision = v1::Verdict::REVIEW,
          .reasons = {MakeReason(code, message)}};
}

// Nothing can be measured: to EVALUATED, and from there to people.
absl::Status LeaveToPeople(HubTransaction& transaction,
                           ContributionRecord& record, const v1::Reason& why) {
  record.set_undecided(true);
  *record.mutable_contribution()->add_verdicts() =
      MakeVerdict(kGateSplit, v1::Verdict::REVIEW, {why}, transaction.now());
  CAIRN_RETURN_IF_ERROR(
      Move(record, v1::Contribution::EVALUATED, transaction.now()));
  return transaction.Put(record);
}

// The results of the looks before `job` and its own. Sets what `out` says of
// parts.
absl::StatusOr<v1::EvaluateResult> ReadLooks(const HubReader& reader,
                                             const BlobStore& blobs,
                                             const ContributionRecord& record,
                                             const JobRecord& job,
                                             v1::EvaluateSpec& first,
                                             Evaluated& out) {
  CAIRN_ASSIGN_OR_RETURN(auto last, ReadJobResult(blobs, job));
  out.device_class = last.device_class();
  first = job.spec().evaluate();
  out.is_in_parts = IsInParts(first);
  if (!out.is_in_parts) return std::move(*last.mutable_evaluate());
  out.look = record.look_jobs_size();
  std::vector<v1::EvaluateResult> looks;
  for (int i = 0; i < record.look_jobs_size(); ++i) {
    CAIRN_ASSIGN_OR_RETURN(auto earlier,
                           reader.Get<JobRecord>(record.look_jobs(i)));
    if (i == 0) first = earlier.spec().evaluate();
    CAIRN_ASSIGN_OR_RETURN(auto result, ReadJobResult(blobs, earlier));
    out.begins_again |= result.device_class() != out.device_class;
    looks.push_back(std::move(*result.mutable_evaluate()));
  }
  looks.push_back(std::move(*last.mutable_evaluate()));
  return JoinLooks(first, looks);
}

// What to score after this look.
absl::Status PlanNextLook(const HubReader& reader,
                          const v1::EvaluateSpec& first, Evaluated& out) {
  if (out.begins_again) {
    out.next = first;
    for (auto& suite : *out.next->mutable_suites()) suite.clear_items();
    return absl::OkStatus();
  }
  if (!out.is_in_parts || out.look == kLastLook) return absl::OkStatus();
  std::map<std::string, v1::SplitScores> base;
  for (const v1::SplitScores& scores : out.result.base()) {
    base[scores.suite()] = scores;
  }
  for (const v1::SuiteInput& suite : first.suites()) {
    if (base.contains(suite.suite())) continue;
    CAIRN_ASSIGN_OR_RETURN(auto kept,
                           FindScores(reader, out.base_key, suite.suite(),
                                      suite.version(), kGateSplit));
    if (!kept.has_value()) {
      return absl::DataLossError(
          absl::StrCat("scores of the base on ", suite.suite(), " are gone"));
    }
    base[suite.suite()] = *std::move(kept);
  }
  out.next = SpecOfLook(first, out.look + 1, base);
  return absl::OkStatus();
}

absl::StatusOr<Evaluated> Judge(const HubReader& reader, const BlobStore& blobs,
                                const ContributionRecord& record,
                                const JobRecord& job) {
  Evaluated out;
  v1::EvaluateSpec spec;
  CAIRN_ASSIGN_OR_RETURN(out.result,
                         ReadLooks(reader, blobs, record, job, spec, out));
  CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(record.model()));
  for (const v1::SuiteInput& input : spec.suites()) {
    CAIRN_ASSIGN_OR_RETURN(auto suite, reader.Get<SuiteRecord>(SuiteVersionName(
                                           input.suite(), input.version())));
    out.suites.push_back(std::move(suite));
  }
  out.base_key = {.digest = DigestOf(spec.base()),
                  .device_class = out.device_class,
                  .dtype = spec.dtype()};
  if (!out.result.base_digest().empty() &&
      out.result.base_digest() != out.base_key.digest) {
    return absl::DataLossError(absl::StrCat(
        "the worker scored a base of digest ", out.result.base_digest(),
        " instead of ", out.base_key.digest));
  }
  CAIRN_RETURN_IF_ERROR(PlanNextLook(reader, spec, out));
  if (out.begins_again) return out;
  const auto& claims = record.contribution().claims();
  CAIRN_ASSIGN_OR_RETURN(
      out.pairs,
      PairScores(reader, out.base_key, out.result.base(),
                 out.result.candidate(), out.suites, kGateSplit,
                 model.model().policy(),
                 std::set<std::string>(claims.begin(), claims.end())));
  return out;
}

// Has the rest, or the next part of it, scored.
absl::Status GoOn(HubTransaction& transaction, const Evaluated& evaluated,
                  ContributionRecord& record) {
  JobRequest request{.model = record.model(),
                     .subject = record.contribution().name()};
  *request.spec.mutable_evaluate() = *evaluated.next;
  if (evaluated.begins_again) {
    record.clear_look_jobs();
  } else {
    record.add_look_jobs(record.job());
  }
  CAIRN_ASSIGN_OR_RETURN(*record.mutable_job(),
                         EnqueueJob(transaction, request));
  return transaction.Put(record);
}

// The measured pairs at the levels that the ledger leaves them.
absl::StatusOr<std::vector<GateSuite>> WithLevels(
    const HubReader& reader, const v1::Policy& policy,
    const std::string& organisation, const Evaluated& evaluated) {
  std::vector<GateSuite> pairs = evaluated.pairs;
  CAIRN_RETURN_IF_ERROR(SetClaimLevels(reader, policy, organisation,
                                       evaluated.suites, pairs));
  return pairs;
}

// A decision that is reached after the time at which it should have been told
// waits for the next such time: when it is told says no more than how many were
// missed, which is charged.
void HoldLonger(absl::Time now, ContributionRecord& record) {
  if (record.look_decided()) return;
  const absl::Time hold = FromTimestamp(record.hold_until());
  const absl::Duration period = absl::Milliseconds(record.hold_period_ms());
  if (now < hold || period <= absl::ZeroDuration()) return;
  const int64_t missed = (now - hold) / period + 1;
  *record.mutable_hold_until() = ToTimestamp(hold + missed * period);
  record.set_holds_missed(record.holds_missed() + missed);
}

// Decides on what was measured, charges what the decision tells, and adds the
// reports to the contribution. nullopt when more must be measured.
absl::StatusOr<std::optional<GateDecision>> Decide(
    HubTransaction& transaction, const Evaluated& evaluated,
    ContributionRecord& record) {
  if (evaluated.begins_again) return std::optional<GateDecision>();
  if (evaluated.pairs.empty()) return std::optional(evaluated.decision);
  v1::Contribution& contribution = *record.mutable_contribution();
  CAIRN_ASSIGN_OR_RETURN(auto model,
                         transaction.Get<ModelRecord>(record.model()));
  const v1::Policy& policy = model.model().policy();
  CAIRN_ASSIGN_OR_RETURN(std::string organisation,
                         OrganisationOf(transaction, contribution.author()));
  CAIRN_ASSIGN_OR_RETURN(
      auto pairs, WithLevels(transaction, policy, organisation, evaluated));
  const v1::Verdict::Decision on_canary = OnAnomaly(policy, "canary");
  double alpha = policy.alpha();
  std::optional<GateDecision> decision;
  if (evaluated.is_in_parts) {
    decision = DecideLook(pairs, alpha, on_canary, evaluated.look);
    if (!decision.has_value()) return decision;
    HoldLonger(transaction.now(), record);
    if (transaction.now() < FromTimestamp(record.hold_until())) return decision;
    CAIRN_RETURN_IF_ERROR(ChargeTime(transaction, organisation,
                                     evaluated.suites, record.holds_missed()));
    pairs = AtLook(pairs, evaluated.look);
    alpha *= kLooks[evaluated.look].level;
  } else {
    decision = DecideContribution(pairs, alpha, on_canary);
  }
  auto reports = MakeReports(pairs, alpha, evaluated.device_class);
  CAIRN_RETURN_IF_ERROR(ChargeHoldout(
      transaction, organisation, evaluated.suites, pairs, *decision, reports));
  for (v1::Report& report : reports) {
    *contribution.add_reports() = std::move(report);
  }
  return decision;
}

// What the policy wants people to look at, although the gate passed.
std::vector<v1::Reason> ReasonsForReview(const ContributionRecord& record,
                                         const v1::Policy& policy) {
  auto is_listed = [&](absl::string_view what) {
    return std::find(policy.review_if().begin(), policy.review_if().end(),
                     what) != policy.review_if().end();
  };
  std::vector<v1::Reason> reasons;
  if (record.contribution().claims().empty() && is_listed("no_claim")) {
    reasons.push_back(
        MakeReason(v1::Reason::POLICY,
                   "no suite is claimed to get better, so a reviewer "
                   "decides whether it is wanted"));
  }
  for (const std::string& trait : record.traits()) {
    if (!is_listed(trait)) continue;
    reasons.push_back(MakeReason(
        v1::Reason::POLICY,
        absl::StrCat("the update has the trait '", trait,
                     "', which the policy wants a reviewer to look at")));
  }
  for (const v1::Finding& finding : record.contribution().findings()) {
    if (!finding.anomaly() ||
        OnAnomaly(policy, finding.screen()) != v1::Verdict::REVIEW) {
      continue;
    }
    reasons.push_back(MakeReason(
        v1::Reason::SCREEN_ANOMALY,
        absl::StrCat("screen '", finding.screen(), "': ", finding.evidence())));
  }
  if (policy.approvals() > 0) {
    reasons.push_back(
        MakeReason(v1::Reason::POLICY,
                   absl::StrCat("the policy asks for ", policy.approvals(),
                                " approvals of every contribution")));
  }
  return reasons;
}

// SCREENED -> EVALUATED or REJECTED.
absl::Status Conclude(HubTransaction& transaction, const GateDecision& decision,
                      ContributionRecord& now) {
  *now.mutable_contribution()->add_verdicts() = MakeVerdict(
      kGateSplit, decision.decision, decision.reasons, transaction.now());
  now.clear_job();
  now.clear_look_jobs();
  now.clear_hold_until();
  now.clear_look_decided();
  now.clear_hold_period_ms();
  now.clear_holds_missed();
  now.set_undecided(decision.decision == v1::Verdict::REVIEW);
  if (decision.decision != v1::Verdict::FAIL) {
    CAIRN_RETURN_IF_ERROR(
        Move(now, v1::Contribution::EVALUATED, transaction.now()));
    return transaction.Put(now);
  }
  CAIRN_RETURN_IF_ERROR(
      Move(now, v1::Contribution::REJECTED, transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(now));
  return Announce(transaction, now,
                  "refused by the gate; its author and reviewers see why");
}

}  // namespace

absl::StatusOr<int> GateStage::RunPass() {
  HubSnapshot snapshot = store_.Read();
  int moved = 0;
  auto count = [&](absl::StatusOr<bool> did, const ContributionRecord& record) {
    if (!did.ok()) {
      CAIRN_LOG(kError, "gate of ", record.contribution().name(), ": ",
                did.status().ToString());
    } else if (*did) {
      ++moved;
    }
  };
  for (const char* state : {"EVALUATED", "SCREENED"}) {
    CAIRN_ASSIGN_OR_RETURN(
        auto records, snapshot.FindBy<ContributionRecord>(
                          kContributionByState, state, kContributionsAPass));
    for (const ContributionRecord& record : records) {
      if (record.contribution().state() == v1::Contribution::EVALUATED) {
        count(Route(record), record);
      } else if (record.job().empty()) {
        count(StartEvaluation(record), record);
      } else {
        count(FinishEvaluation(record), record);
      }
    }
  }
  return moved;
}

absl::StatusOr<bool> GateStage::StartEvaluation(
    const ContributionRecord& record) {
  const std::string& name = record.contribution().name();
  bool moved = false;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    moved = false;
    CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Get<ContributionRecord>(name));
    if (now.contribution().state() != v1::Contribution::SCREENED ||
        !now.job().empty()) {
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto newest, transaction.NewestSuites(now.model()));
    for (const SuiteRecord& suite : newest) {
      if (suite.suite().state() == v1::Suite::CHECKING) {
        return absl::CancelledError();  // Waits; nothing to write.
      }
    }
    CAIRN_ASSIGN_OR_RETURN(auto suites, transaction.ActiveSuites(now.model()));
    moved = true;
    if (suites.empty()) {
      return LeaveToPeople(
          transaction, now,
          MakeReason(v1::Reason::NO_SUITES,
                     "the model has no suite to vet with; a maintainer adds "
                     "one with 'cairn suite add', or a reviewer decides"));
    }
    CAIRN_ASSIGN_OR_RETURN(auto model,
                           transaction.Get<ModelRecord>(now.model()));
    absl::Status left =
        CheckHoldoutLeft(transaction, now.model(), model.model().policy());
    if (absl::IsFailedPrecondition(left)) {
      return LeaveToPeople(transaction, now, ReasonOf(left));
    }
    CAIRN_RETURN_IF_ERROR(left);
    CAIRN_ASSIGN_OR_RETURN(auto base, transaction.Get<ReleaseRecord>(
                                          now.contribution().base_release()));
    JobRequest request{.model = now.model(), .subject = name};
    v1::EvaluateSpec& spec = *request.spec.mutable_evaluate();
    *spec.mutable_base() = MakeModelInput(base);
    CAIRN_ASSIGN_OR_RETURN(*spec.mutable_update(),
                           MakeUpdateInput(transaction, now));
    for (const SuiteRecord& suite : suites) {
      *spec.add_suites() = MakeSuiteInput(suite, {kGateSplit});
    }
    SetComputation(model.model().policy(), spec);
    CAIRN_RETURN_IF_ERROR(
        AskForFirstLook(transaction, model.model().policy(), spec));
    CAIRN_ASSIGN_OR_RETURN(*now.mutable_job(),
                           EnqueueJob(transaction, request));
    return transaction.Put(now);
  });
  if (absl::IsCancelled(committed)) return false;
  if (!committed.ok()) return committed;
  return moved;
}

absl::StatusOr<bool> GateStage::FinishEvaluation(
    const ContributionRecord& record) {
  const std::string& name = record.contribution().name();
  // Decided, but not to be told yet.
  if (record.look_decided() &&
      store_.clock().Now() < FromTimestamp(record.hold_until())) {
    return false;
  }
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto job, snapshot.Find<JobRecord>(record.job()));
  if (job.has_value() && !IsOver(job->state())) return false;
  Evaluated evaluated;
  if (!job.has_value() || job->state() == JobRecord::FAILED) {
    evaluated.decision = Undecided(
        v1::Reason::EVALUATION_FAILED,
        absl::StrCat(kGivenUp, job.has_value() ? job->failure().message()
                                               : "its job is forgotten"));
  } else if (auto judged = Judge(snapshot, blobs_, record, *job); judged.ok()) {
    evaluated = *std::move(judged);
  } else {
    evaluated.decision =
        Undecided(v1::Reason::EVALUATION_FAILED,
                  absl::StrCat(kGivenUp, judged.status().message()));
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Get<ContributionRecord>(name));
    if (now.contribution().state() != v1::Contribution::SCREENED ||
        now.job() != record.job()) {
      return absl::OkStatus();
    }
    CAIRN_RETURN_IF_ERROR(RememberScores(transaction, evaluated.base_key,
                                         evaluated.result.base()));
    if (evaluated.is_in_parts && !now.has_hold_until()) {
      *now.mutable_hold_until() = ToTimestamp(HoldUntil(*job));
      now.set_hold_period_ms(absl::ToInt64Milliseconds(HoldPeriod(*job)));
    }
    CAIRN_ASSIGN_OR_RETURN(auto decision, Decide(transaction, evaluated, now));
    now.set_look_decided(decision.has_value());
    if (!decision.has_value()) return GoOn(transaction, evaluated, now);
    if (evaluated.is_in_parts &&
        transaction.now() < FromTimestamp(now.hold_until())) {
      return transaction.Put(now);
    }
    return Conclude(transaction, *decision, now);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> GateStage::Route(const ContributionRecord& record) {
  const std::string& name = record.contribution().name();
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Get<ContributionRecord>(name));
    if (now.contribution().state() != v1::Contribution::EVALUATED) {
      return absl::OkStatus();
    }
    CAIRN_ASSIGN_OR_RETURN(auto model,
                           transaction.Get<ModelRecord>(now.model()));
    std::vector<v1::Reason> reasons =
        ReasonsForReview(now, model.model().policy());
    const bool to_people = now.undecided() || !reasons.empty();
    if (!reasons.empty()) {
      *now.mutable_contribution()->add_verdicts() = MakeVerdict(
          kGateSplit, v1::Verdict::REVIEW, reasons, transaction.now());
    }
    *now.mutable_waiting_since() = ToTimestamp(transaction.now());
    if (!to_people) {
      CAIRN_ASSIGN_OR_RETURN(
          int64_t position,
          transaction.NextNumber(absl::StrCat(now.model(), "/queue")));
      now.set_queue_position(position);
    }
    CAIRN_RETURN_IF_ERROR(Move(
        now,
        to_people ? v1::Contribution::NEEDS_REVIEW : v1::Contribution::QUEUED,
        transaction.now()));
    CAIRN_RETURN_IF_ERROR(transaction.Put(now));
    return Announce(transaction, now,
                    to_people ? "waits for reviewers" : "waits for a batch");
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
