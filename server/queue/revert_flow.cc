#include "server/queue/revert_flow.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/queue/batch_ending.h"
#include "server/queue/line.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::LineStep;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;

// The weights of a release as the state that merges go on from.
CandidateRecord WeightsOf(const ReleaseRecord& release) {
  CandidateRecord weights;
  weights.set_release(release.release().name());
  weights.set_tensor_manifest_sha256(
      release.release().tensor_manifest_sha256());
  weights.set_digest(release.release().digest());
  return weights;
}

std::string Target(const BatchRecord& batch) {
  return batch.batch().contributions(0);
}

}  // namespace

absl::StatusOr<bool> RevertFlow::Advance(const BatchRecord& batch) {
  switch (batch.batch().state()) {
    case v1::Batch::FORMING:
      return Form(batch);
    case v1::Batch::MERGING:
      return batch.remaining().empty() ? StartGate(batch) : RepeatMerge(batch);
    case v1::Batch::EVALUATING:
      return batch.gated() ? Publish(batch) : FinishGate(batch);
    default:
      return false;
  }
}

absl::StatusOr<bool> RevertFlow::Put(const BatchRecord& batch) {
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> RevertFlow::Form(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Head(batch.model()));
  auto plan = PlanWithout(head, Target(batch));
  if (!plan.ok()) {
    return Fail(
        std::move(batch),
        {MakeReason(v1::Reason::POLICY, std::string(plan.status().message()))});
  }
  CAIRN_ASSIGN_OR_RETURN(auto start, snapshot.Get<ReleaseRecord>(plan->start));
  batch.set_head(head.release().name());
  *batch.mutable_chosen() = WeightsOf(start);
  for (LineStep& step : plan->reached) *batch.add_line() = std::move(step);
  for (LineStep& step : plan->remaining) {
    *batch.add_remaining() = std::move(step);
  }
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::MERGING, transaction.now()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> RevertFlow::RepeatMerge(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  if (!batch.merge_job().empty()) {
    CAIRN_ASSIGN_OR_RETURN(auto outcome,
                           LookAtJob(snapshot, blobs_, batch.merge_job()));
    if (outcome.kind == JobOutcome::Kind::kRunning) return false;
    if (outcome.kind == JobOutcome::Kind::kFailed) {
      return Fail(std::move(batch), {outcome.failure});
    }
    return TakeMerge(std::move(batch), outcome);
  }
  CAIRN_ASSIGN_OR_RETURN(auto files,
                         snapshot.Get<ReleaseRecord>(batch.chosen().release()));
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  CAIRN_ASSIGN_OR_RETURN(
      request.spec,
      MakeMergeSpec(snapshot, MakeModelInput(files, batch.chosen()),
                    batch.remaining(0), v1::MergeSpec::UPLOAD));
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_ASSIGN_OR_RETURN(*next.mutable_merge_job(),
                           EnqueueJob(transaction, request));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> RevertFlow::TakeMerge(BatchRecord batch,
                                           const JobOutcome& outcome) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto files,
                         snapshot.Get<ReleaseRecord>(batch.chosen().release()));
  auto candidate =
      TakeCandidate(blobs_, files, outcome.job.spec().merge(), outcome.result);
  if (!candidate.ok()) {
    return Fail(std::move(batch), {ReasonOf(candidate.status())});
  }
  LineStep done = batch.remaining(0);
  done.set_digest(candidate->digest());
  *batch.add_line() = std::move(done);
  batch.mutable_remaining()->erase(batch.remaining().begin());
  *batch.mutable_chosen() = *std::move(candidate);
  batch.clear_merge_job();
  return Put(batch);
}

absl::StatusOr<bool> RevertFlow::StartGate(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Get<ReleaseRecord>(batch.head()));
  CAIRN_ASSIGN_OR_RETURN(auto files,
                         snapshot.Get<ReleaseRecord>(batch.chosen().release()));
  CAIRN_ASSIGN_OR_RETURN(auto all, snapshot.ActiveSuites(batch.model()));
  const auto suites = SuitesWith(SuitesWith(all, "gate"), "audit");
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  request.spec =
      MakeJudgeSpec(MakeModelInput(head), MakeModelInput(files, batch.chosen()),
                    suites, {"gate", "audit"}, model.model().policy());
  batch.mutable_batch()->set_candidate_digest(batch.chosen().digest());
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    if (suites.empty()) {
      next.set_gated(true);  // Nothing to hold it to.
    } else {
      CAIRN_ASSIGN_OR_RETURN(*next.mutable_gate_job(),
                             EnqueueJob(transaction, request));
    }
    CAIRN_RETURN_IF_ERROR(Move(next, v1::Batch::EVALUATING, transaction.now()));
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> RevertFlow::FinishGate(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs_, batch.gate_job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return Fail(std::move(batch), {outcome.failure});
  }
  CAIRN_ASSIGN_OR_RETURN(auto model, snapshot.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  auto gate =
      PairCandidate(snapshot, outcome.job, outcome.result, "gate", policy, {});
  if (!gate.ok()) return Fail(std::move(batch), {ReasonOf(gate.status())});
  auto audit =
      PairCandidate(snapshot, outcome.job, outcome.result, "audit", policy, {});
  if (!audit.ok()) return Fail(std::move(batch), {ReasonOf(audit.status())});
  const std::string& device_class = outcome.result.device_class();
  for (v1::Report& report : MakeReports(*gate, policy.alpha(), device_class)) {
    *batch.mutable_batch()->add_reports() = std::move(report);
  }
  for (v1::Report& report : MakeReports(*audit, policy.alpha(), device_class)) {
    *batch.add_audit() = std::move(report);
  }
  const GateDecision decision = DecideHarm(*gate, policy.alpha());
  if (decision.decision != v1::Verdict::PASS) {
    return Fail(std::move(batch), decision.reasons);
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

absl::StatusOr<bool> RevertFlow::Publish(BatchRecord batch) {
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head, snapshot.Get<ReleaseRecord>(batch.head()));
  CAIRN_ASSIGN_OR_RETURN(auto latest, snapshot.Head(batch.model()));
  if (latest.release().name() != batch.head()) {
    return Fail(std::move(batch),
                {MakeReason(v1::Reason::POLICY,
                            "the head moved while the revert ran; revert "
                            "again on the new head")});
  }
  Publication publication{
      .model = batch.model(),
      .head = batch.head(),
      .origin = ReleaseRecord::REVERTED,
      .candidate = batch.chosen(),
      .contributions = {},
      .added = {},
      .line = {batch.line().begin(), batch.line().end()},
      .reports = {batch.audit().begin(), batch.audit().end()},
      .batch = batch.batch().name()};
  for (const std::string& name : head.release().contributions()) {
    if (name != Target(batch)) publication.contributions.push_back(name);
  }
  auto built = publisher_.Build(publication);
  if (absl::IsDataLoss(built.status())) {
    return Fail(std::move(batch), {ReasonOf(built.status())});
  }
  if (!built.ok()) return built.status();
  const ReleaseRecord& release = *built;
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_RETURN_IF_ERROR(publisher_.Commit(transaction, publication, release));
    CAIRN_RETURN_IF_ERROR(MarkReverted(transaction, next, Target(next),
                                       release.release().name()));
    return FinishBatch(transaction, next, release.release().name());
  });
  // The head moved in between: the next step sees it.
  if (absl::IsAborted(committed)) return true;
  if (!committed.ok()) return committed;
  return true;
}

absl::StatusOr<bool> RevertFlow::Fail(BatchRecord batch,
                                      const std::vector<v1::Reason>& reasons) {
  absl::Status committed = store_.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    CAIRN_ASSIGN_OR_RETURN(auto target,
                           transaction.Get<ContributionRecord>(Target(next)));
    target.clear_revert_batch();
    CAIRN_RETURN_IF_ERROR(transaction.Put(target));
    return FailBatch(transaction, next, reasons);
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
