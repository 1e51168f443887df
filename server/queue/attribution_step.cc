#include "server/queue/attribution_step.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/update/strategies.h"
#include "server/flow/job_records.h"
#include "server/gate/attribution.h"
#include "server/queue/candidate.h"

namespace cairn {
namespace {

using store::v1::BatchRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;
using v1::Attribution;

int LeastOf(const v1::SearchSpec& spec) {
  return UpdatesMin(spec.strategy(), {spec.parameters().begin(),
                                      spec.parameters().end()});
}

// Whether the strategy merges one update fewer.
bool CanLeaveOneOut(const v1::SearchSpec& spec) {
  return spec.updates_size() > LeastOf(spec);
}

std::string NoteOf(const v1::SearchSpec& spec, const v1::Policy& policy) {
  if (policy.attribution() == "placebo") {
    return "the policy asks for the placebo only";
  }
  if (!CanLeaveOneOut(spec)) {
    return absl::StrCat(
        "the merge without each member is not measured: strategy ",
        spec.strategy(), " takes at least ", LeastOf(spec),
        " updates, and there are ", spec.updates_size());
  }
  return absl::StrCat("the merge without each member is measured for at most ",
                      kLeaveOneOutMax, " members; there are ",
                      spec.updates_size());
}

absl::StatusOr<Attribution> Measured(const HubReader& reader,
                                     const JobOutcome& outcome,
                                     const BatchRecord& batch) {
  if (outcome.kind == JobOutcome::Kind::kFailed) {
    return absl::FailedPreconditionError(outcome.failure.message());
  }
  CAIRN_ASSIGN_OR_RETURN(auto model, reader.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  const v1::SearchSpec& spec = outcome.job.spec().search();
  CAIRN_ASSIGN_OR_RETURN(auto out,
                         MakeAttribution(reader, spec, outcome.result, policy));
  if (out.members().empty()) out.set_note(NoteOf(spec, policy));
  return out;
}

}  // namespace

absl::Status StartAttribution(HubTransaction& transaction,
                              const store::v1::LineStep& merge,
                              BatchRecord& batch) {
  CAIRN_ASSIGN_OR_RETURN(auto model,
                         transaction.Get<ModelRecord>(batch.model()));
  const v1::Policy& policy = model.model().policy();
  CAIRN_ASSIGN_OR_RETURN(auto all, transaction.ActiveSuites(batch.model()));
  const std::vector<SuiteRecord> suites = SuitesWith(all, "search");
  if (policy.attribution().empty() || policy.attribution() == "off" ||
      suites.empty()) {
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(auto head,
                         transaction.Get<ReleaseRecord>(batch.head()));
  CAIRN_ASSIGN_OR_RETURN(
      auto spec, MakeMergeSpec(transaction, MakeModelInput(head), merge,
                               v1::MergeSpec::DIGEST_ONLY));
  JobRequest request{.model = batch.model(), .subject = batch.batch().name()};
  v1::SearchSpec& search = *request.spec.mutable_search();
  *search.mutable_head() = spec.merge().head();
  *search.mutable_updates() = spec.merge().updates();
  search.set_strategy(spec.merge().strategy());
  *search.mutable_parameters() = spec.merge().parameters();
  search.set_seed(spec.merge().seed());
  for (const SuiteRecord& suite : suites) {
    *search.add_suites() = MakeSuiteInput(suite, {"search"});
  }
  SetComputation(policy, search);
  search.set_attribute(true);
  search.set_leave_one_out(policy.attribution() == "full" &&
                           CanLeaveOneOut(search) &&
                           search.updates_size() <= kLeaveOneOutMax);
  CAIRN_ASSIGN_OR_RETURN(*batch.mutable_attribution_job(),
                         EnqueueJob(transaction, request));
  return absl::OkStatus();
}

bool IsExplained(const BatchRecord& batch) {
  return batch.attribution_job().empty() || batch.batch().has_attribution();
}

absl::StatusOr<bool> TakeAttribution(HubStore& store, const BlobStore& blobs,
                                     BatchRecord batch) {
  HubSnapshot snapshot = store.Read();
  CAIRN_ASSIGN_OR_RETURN(auto outcome,
                         LookAtJob(snapshot, blobs, batch.attribution_job()));
  if (outcome.kind == JobOutcome::Kind::kRunning) return false;
  auto measured = Measured(snapshot, outcome, batch);
  Attribution& out = *batch.mutable_batch()->mutable_attribution();
  if (measured.ok()) {
    out = *std::move(measured);
  } else {
    out.set_note(
        absl::StrCat("nothing was measured: ", measured.status().message()));
  }
  absl::Status committed = store.Transact([&](HubTransaction& transaction) {
    BatchRecord next = batch;
    return transaction.Put(next);
  });
  if (!committed.ok()) return committed;
  return true;
}

}  // namespace cairn
