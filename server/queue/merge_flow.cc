#include "server/queue/merge_flow.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/failpoint.h"
#include "core/update/strategies.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/flow/resource_names.h"
#include "server/gate/attribution.h"
#include "server/queue/attribution_step.h"
#include "server/queue/batch_ending.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::LineStep;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;
using store::v1::TrialRecord;

constexpr char kLambda[] = "lambda";
constexpr int kRestartsMax = 3;

std::vector<std::string> MembersOf(const BatchRecord& batch) {
  const auto& names = batch.batch().contributions();
  return {names.begin(), names.end()};
}

// The merge of some members as a step of a line.
LineStep StepOf(const BatchRecord& batch,
                const std::vector<std::string>& members) {
  LineStep step;
  for (const std::string& name : members) step.add_contributions(name);
  step.set_strategy(batch.batch().strategy());
  *step.mutable_parameters() = batch.batch().parameters();
  return step;
}

bool IsRunning(const TrialRecord& trial) {
  return trial.outcome() == TrialRecord::OUTCOME_UNSPECIFIED;
}

std::string Names(const std::vector<std::string>& members) {
  return absl::StrJoin(members, ", ",
                       [](std::string* out, const std::string& name) {
                         absl::StrAppend(out, ShortName(name));
                       });
}

// The best lambda: largest mean gain, ties to the smaller, the base competing.
const v1::SearchPoint* Best(const BatchRecord& batch) {
  const v1::SearchPoint* best = nullptr;
  for (const v1::SearchPoint& point : batch.batch().search()) {
    if (point.excluded() || point.mean_gain() <= 0) continue;
    if (best == nullptr || point.mean_gain() > best->mean_gain() ||
        (point.mean_gain() == best->mean_gain() &&
         point.lambda() < best->lambda())) {
      best = &point;
    }
  }
  return best;
}

v1::Reason NoSuites() {
  return MakeReason(v1::Reason::NO_SUITES,
                    "the model has no suite to hold a merge to; add one with "
                    "'cairn suite add'");
}

}  // namespace

std::string ParameterText(double value) {
  char text[32];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof(text), "%.*g", digits, value);
    double read = 0;
    if (absl::SimpleAtod(text, &read) && read == value) break;
  }
  return text;
}

absl::StatusOr<bool> MergeFlow::Advance(const BatchRecord& batch) {
  switch (batch.batch().state()) {
    case v1::Batch::FORMING:
      return Form(batch);
    case v1::Batch::MERGING:
      if (!batch.parameters_fixed()) return FinishSearch(batch);
      if (batch.trials().empty()) {
        return StartTrial(batch, MembersOf(batch), /*repeats=*/false);
      }
      return AdvanceTrial(batch, 0);
    case v1::Batch::EVALUATING:
      if (batch.has_chosen() && batch.gated()) {
        return IsExplained(batch) ? Publish(batch)
                                  : TakeAttribution(store_, blobs_, batch);
      }
      if (batch.has_chosen()) return FinishAudit(batch);
      if (IsRunning(batch.trials(0))) return AdvanceTrial(batch, 0);
      return AfterGate(batch);
    case v1::Batch::BISECTING: {
      const int last = batch.trials_size() - 1;
      if (IsRunning(batch.trials(last))) return AdvanceTrial(batch, last);
      return Bisect(batch);
    }
    default:
      return false;
  }
}

absl::StatusOr<bool> MergeFlow::Form(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Head(batch.model()));
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  CAIRN_ASSIGN_OR_RETURN(auto all, snapshot.ActiveSuites(batch.model()));
  const std::vector<SuiteRecord> suites = SuitesWith(all, "search");
  if (suites.empty()) return NoGain(std::move(batch), {NoSuites()});
  const v1::Policy& policy = model.model().policy();
  batch.set_head(head.release().name());
  const StrategySpec* strategy = FindStrategy(batch.batch().strategy());
  batch.set_parameters_fixed((strategy != nullptr && !strategy->has_lambda()) ||
                             batch.batch().parameters().contains(kLambda));
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  if (!batch.parameters_fixed()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto merge,
        MakeMergeSpec(snapshot, MakeModelInput(head),
                      StepOf(batch, MembersOf(batch)), v1::MergeSpec::UPLOAD));
    v1::SearchSpec& search = *request.spec.mutable_search();
    *search.mutable_head() = merge.merge().head();
    *search.mutable_updates() = merge.merge().updates();
    search.set_strategy(merge.merge().strategy());
    *search.mutable_parameters() = merge.merge().parameters();
    for (double lambda : policy.lambda_grid()) search.add_lambdas(lambda);
    for (const SuiteRecord& suite : suites) {
      *search.add_suites() = MakeSuiteInput(suite, {"search"});
    }
    SetComputation(policy, search);
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    if (!next.parameters_fixed()) {
      CAIRN_ASSIGN_OR_RETURN(*next.mutable_search_job(),
                             EnqueueJob(transaction, request));
    }
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::MERGING, transaction.now()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::FinishSearch(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs_, batch.search_job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return GiveUp(std::move(batch), outcome.failure);
  }
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  const v1::SearchSpec& spec = outcome.job.spec().search();
  std::vector<SuiteRecord> suites;
  for (const v1::SuiteInput& input : spec.suites()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto suite, snapshot.Get<SuiteRecord>(
                        SuiteVersionName(input.suite(), input.version())));
    suites.push_back(std::move(suite));
  }
  const ScoreKey base{.digest = DigestOf(spec.head()),
                      .device_class = outcome.result.device_class(),
                      .dtype = spec.dtype()};
  const v1::SearchResult& found = outcome.result.search();
  for (const v1::SearchResult::Point& point : found.points()) {
    auto pairs = PairScores(snapshot, base, found.base(), point.scores(),
                            suites, "search", model.model().policy(), {});
    if (!pairs.ok()) return GiveUp(std::move(batch), ReasonOf(pairs.status()));
    *batch.mutable_batch()->add_search() =
        MakeSearchPoint(point.lambda(), *pairs);
  }
  const v1::SearchPoint* best = Best(batch);
  if (best == nullptr) {
    return NoGain(
        std::move(batch),
        {MakeReason(v1::Reason::NO_GAIN,
                    "no value of lambda makes a merge that is better than "
                    "the head over the suites' search splits")});
  }
  (*batch.mutable_batch()->mutable_parameters())[kLambda] =
      ParameterText(best->lambda());
  batch.set_parameters_fixed(true);
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(RememberScores(transaction, base, found.base()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::StartTrial(
    BatchRecord batch, const std::vector<std::string>& members, bool repeats) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Get<ReleaseRecord>(batch.head()));
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  CAIRN_ASSIGN_OR_RETURN(
      request.spec,
      MakeMergeSpec(snapshot, MakeModelInput(head), StepOf(batch, members),
                    v1::MergeSpec::UPLOAD));
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    TrialRecord& trial = *next.add_trials();
    for (const std::string& name : members) trial.add_contributions(name);
    trial.set_repeats(repeats);
    CAIRN_ASSIGN_OR_RETURN(*trial.mutable_job(),
                           EnqueueJob(transaction, request));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::AdvanceTrial(BatchRecord batch, int at) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs_, batch.trials(at).job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return GiveUp(std::move(batch), outcome.failure);
  }
  if (outcome.job.spec().has_merge()) {
    return TakeMerge(std::move(batch), at, outcome);
  }
  return TakeVerdict(std::move(batch), at, outcome);
}

absl::StatusOr<bool> MergeFlow::TakeMerge(BatchRecord batch, int at,
                                          const JobOutcome& outcome) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Get<ReleaseRecord>(batch.head()));
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  TrialRecord& trial = *batch.mutable_trials(at);
  const v1::MergeSpec& spec = outcome.job.spec().merge();
  if (!trial.has_candidate()) {
    auto candidate = TakeCandidate(blobs_, head, spec, outcome.result);
    if (!candidate.ok()) {
      return GiveUp(std::move(batch), ReasonOf(candidate.status()));
    }
    *trial.mutable_candidate() = *std::move(candidate);
    *trial.mutable_candidate()->mutable_merge_record()->mutable_search() =
        batch.batch().search();
  } else if (outcome.result.merge().digest() != trial.candidate().digest()) {
    return GiveUp(std::move(batch),
                  MakeReason(v1::Reason::EVALUATION_FAILED,
                             absl::StrCat("two workers merged to different "
                                          "digests, ",
                                          trial.candidate().digest(), " and ",
                                          outcome.result.merge().digest())));
  }
  trial.add_merged_by(outcome.job.completed_by());
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  if (trial.merged_by_size() < policy.confirmations()) {
    *request.spec.mutable_merge() = spec;
    request.spec.mutable_merge()->set_output(v1::MergeSpec::DIGEST_ONLY);
    request.excluded_instances.assign(trial.merged_by().begin(),
                                      trial.merged_by().end());
  } else {
    CAIRN_ASSIGN_OR_RETURN(auto all, snapshot.ActiveSuites(batch.model()));
    const auto suites = SuitesWith(all, "gate");
    if (suites.empty()) return NoGain(std::move(batch), {NoSuites()});
    request.spec = MakeJudgeSpec(MakeModelInput(head),
                                 MakeModelInput(head, trial.candidate()),
                                 suites, {"gate"}, policy);
  }
  const bool is_judged_next = request.spec.has_evaluate();
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_ASSIGN_OR_RETURN(*next.mutable_trials(at)->mutable_job(),
                           EnqueueJob(transaction, request));
    if (is_judged_next && next.batch().state() == v1::Batch::MERGING) {
      next.mutable_batch()->set_candidate_digest(
          next.trials(at).candidate().digest());
      CAIRN_RETURN_IF_ERROR(
          Move(next, v1::Batch::EVALUATING, transaction.now()));
    }
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::TakeVerdict(BatchRecord batch, int at,
                                            const JobOutcome& outcome) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  TrialRecord& trial = *batch.mutable_trials(at);
  const std::vector<std::string> members(trial.contributions().begin(),
                                         trial.contributions().end());
  CAIRN_ASSIGN_OR_RETURN(auto claims, ClaimsOf(snapshot, members));
  auto pairs = PairCandidate(snapshot, outcome.job, outcome.result, "gate",
                             policy, claims);
  if (!pairs.ok()) return GiveUp(std::move(batch), ReasonOf(pairs.status()));
  const GateDecision decision = DecideCandidate(*pairs, policy.alpha());
  const bool passed = decision.decision == v1::Verdict::PASS;
  trial.set_outcome(passed ? TrialRecord::PASSED : TrialRecord::FAILED);
  for (const v1::Reason& reason : decision.reasons) {
    *trial.add_reasons() = reason;
  }
  for (v1::Report& report :
       MakeReports(*pairs, policy.alpha(), outcome.result.device_class())) {
    if (at == 0) *batch.mutable_batch()->add_reports() = report;
    *trial.add_reports() = std::move(report);
  }
  if (batch.batch().state() == v1::Batch::BISECTING) {
    batch.mutable_batch()->add_bisection(
        absl::StrCat(Names(members), passed ? ": passes" : ": fails",
                     trial.repeats() ? " again" : ""));
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(
        RememberCandidateScores(transaction, outcome.job, outcome.result));
    CAIRN_RETURN_IF_ERROR(
        ChargeMembers(transaction, members, outcome.job, decision.decision));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::AfterGate(BatchRecord batch) {
  if (batch.trials(0).outcome() == TrialRecord::PASSED) {
    const TrialRecord passed = batch.trials(0);
    return StartAudit(std::move(batch), passed);
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    next.mutable_batch()->add_bisection(
        absl::StrCat(Names(MembersOf(next)),
                     ": fails: ", next.trials(0).reasons(0).message()));
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::BISECTING, transaction.now()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::Bisect(BatchRecord batch) {
  std::vector<const TrialRecord*> trials;
  for (const TrialRecord& trial : batch.trials()) trials.push_back(&trial);
  const BisectionPlan plan = PlanBisection(trials);
  if (!plan.next.empty()) {
    return StartTrial(std::move(batch), plan.next, plan.repeats);
  }
  return Settle(std::move(batch), plan);
}

absl::StatusOr<bool> MergeFlow::Settle(BatchRecord batch,
                                       const BisectionPlan& plan) {
  const TrialRecord* passed = nullptr;
  std::map<std::string, std::vector<v1::Reason>> alone;
  for (const TrialRecord& trial : batch.trials()) {
    if (trial.outcome() == TrialRecord::PASSED &&
        std::equal(trial.contributions().begin(), trial.contributions().end(),
                   plan.keep.begin(), plan.keep.end())) {
      passed = &trial;
    }
    if (trial.contributions_size() == 1) {
      alone[trial.contributions(0)].assign(trial.reasons().begin(),
                                           trial.reasons().end());
    }
  }
  auto spoils = [](const std::vector<v1::Reason>& reasons) {
    return std::any_of(reasons.begin(), reasons.end(), [](const auto& reason) {
      return reason.code() == v1::Reason::SUITE_REGRESSED;
    });
  };
  const std::vector<v1::Reason> together(batch.trials(0).reasons().begin(),
                                         batch.trials(0).reasons().end());
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    for (const std::string& name : plan.culprits) {
      const auto& reasons = alone[name];
      // One that merely adds nothing spoils no batch: people decide.
      CAIRN_RETURN_IF_ERROR(
          spoils(reasons) ? RejectCulprit(transaction, next, name, reasons)
                          : SendToReview(transaction, next, name, reasons));
    }
    for (const std::string& name : plan.held) {
      CAIRN_RETURN_IF_ERROR(ReturnToQueue(
          transaction, next, name, Requeue::kHeld,
          MakeReason(v1::Reason::POLICY,
                     absl::StrCat("passes alone, but not together with ",
                                  Names(plan.keep)))));
      next.add_held(name);
    }
    if (passed == nullptr) return FailBatch(transaction, next, together);
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::EVALUATING, transaction.now()));
    *next.mutable_chosen() = passed->candidate();
    next.mutable_batch()->set_candidate_digest(passed->candidate().digest());
    *next.mutable_batch()->mutable_reports() = passed->reports();
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::StartAudit(BatchRecord batch,
                                           const TrialRecord& passed) {
  *batch.mutable_chosen() = passed.candidate();
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::FinishAudit(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  if (batch.audit_job().empty()) {
    CAIRN_ASSIGN_OR_RETURN(auto head,
                           snapshot.Get<ReleaseRecord>(batch.head()));
    CAIRN_ASSIGN_OR_RETURN(auto all, snapshot.ActiveSuites(batch.model()));
    JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
    request.spec = MakeJudgeSpec(MakeModelInput(head),
                                 MakeModelInput(head, batch.chosen()),
                                 SuitesWith(all, "audit"), {"audit"}, policy);
    const auto& members = batch.chosen().contributions();
    const LineStep merge = StepOf(batch, {members.begin(), members.end()});
    absl::Status asked = store_.Transact([&](HubTransaction& transaction) {
      BatchRecord next = batch;
      CAIRN_ASSIGN_OR_RETURN(*next.mutable_audit_job(),
                             EnqueueJob(transaction, request));
      CAIRN_RETURN_IF_ERROR(StartAttribution(transaction, merge, next));
      return transaction.Put(next);
    });
    if (!asked.ok()) return asked;
    return true;
  }
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs_, batch.audit_job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return GiveUp(std::move(batch), outcome.failure);
  }
  auto pairs =
      PairCandidate(snapshot, outcome.job, outcome.result, "audit", policy, {});
  if (!pairs.ok()) return GiveUp(std::move(batch), ReasonOf(pairs.status()));
  const GateDecision decision = DecideHarm(*pairs, policy.alpha());
  if (decision.decision != v1::Verdict::PASS) {
    return NoGain(std::move(batch), decision.reasons, {AuditFailed()});
  }
  for (v1::Report& report :
       MakeReports(*pairs, policy.alpha(), outcome.result.device_class())) {
    *batch.add_audit() = std::move(report);
  }
  batch.set_gated(true);
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(
        RememberCandidateScores(transaction, outcome.job, outcome.result));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::Publish(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Get<ReleaseRecord>(batch.head()));
  CAIRN_ASSIGN_OR_RETURN(auto latest, snapshot.Head(batch.model()));
  if (latest.release().name() != batch.head()) {
    return BeginAgain(std::move(batch));
  }
  const auto& chosen = batch.chosen().contributions();
  Publication publication{
      .model = batch.model(),
      .head = batch.head(),
      .origin = ReleaseRecord::MERGED,
      .candidate = batch.chosen(),
      .contributions = {head.release().contributions().begin(),
                        head.release().contributions().end()},
      .added = {chosen.begin(), chosen.end()},
      .line = {head.line().begin(), head.line().end()},
      .reports = {batch.audit().begin(), batch.audit().end()},
      .attribution = Rounded(batch.batch().attribution()),
      .batch = batch.batch().name()};
  publication.contributions.insert(publication.contributions.end(),
                                   chosen.begin(), chosen.end());
  LineStep step = StepOf(batch, publication.added);
  step.set_digest(batch.chosen().digest());
  publication.line.push_back(std::move(step));
  auto built = publisher_.Build(publication);
  // What cannot be put together today cannot be tomorrow either; anything
  // else (a full disk) is tried again.
  if (absl::IsDataLoss(built.status())) {
    return GiveUp(std::move(batch), ReasonOf(built.status()));
  }
  if (!built.ok()) return built.status();
  const ReleaseRecord& release = *built;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(publisher_.Commit(transaction, publication, release));
    for (const std::string& name : publication.added) {
      CAIRN_RETURN_IF_ERROR(
          MarkReleased(transaction, next, name, release.release().name()));
    }
    return FinishBatch(transaction, next, release.release().name());
  });
  // The head moved in between: the next step sees it and begins again.
  if (absl::IsAborted(committed)) return true;
  if (!committed.ok()) return committed;
  CAIRN_RETURN_IF_ERROR(Failpoint("release.published"));
  return true;
}

absl::StatusOr<bool> MergeFlow::BeginAgain(BatchRecord batch) {
  if (batch.restarts() >= kRestartsMax) {
    return GiveUp(std::move(batch),
                  MakeReason(v1::Reason::EVALUATION_FAILED,
                             "the head moved again and again while the batch "
                             "ran"));
  }
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Head(batch.model()));
  // Members that bisection set aside have left the batch.
  const auto remaining = batch.chosen().contributions();
  batch.set_restarts(batch.restarts() + 1);
  batch.set_head(head.release().name());
  batch.clear_trials();
  batch.clear_chosen();
  batch.clear_audit();
  batch.clear_audit_job();
  batch.clear_attribution_job();
  batch.set_gated(false);
  *batch.mutable_batch()->mutable_contributions() = remaining;
  batch.mutable_batch()->clear_reports();
  batch.mutable_batch()->clear_attribution();
  batch.mutable_batch()->clear_candidate_digest();
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::MERGING, transaction.now()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::GiveUp(BatchRecord batch,
                                       const v1::Reason& why) {
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    for (const std::string& name : next.batch().contributions()) {
      CAIRN_RETURN_IF_ERROR(
          ReturnToQueue(transaction, next, name, Requeue::kHeld, why));
    }
    return FailBatch(transaction, next, {why});
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> MergeFlow::NoGain(BatchRecord batch,
                                       const std::vector<v1::Reason>& reasons) {
  return NoGain(std::move(batch), reasons, reasons);
}

absl::StatusOr<bool> MergeFlow::NoGain(
    BatchRecord batch, const std::vector<v1::Reason>& reasons,
    const std::vector<v1::Reason>& for_members) {
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    for (const std::string& name : next.batch().contributions()) {
      CAIRN_RETURN_IF_ERROR(SendToReview(transaction, next, name, for_members));
    }
    return FailBatch(transaction, next, reasons);
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
