#include "server/gate/look.h"
#include "server/testing/pipeline_fixture.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/contribution_state.h"
#include "server/flow/resource_names.h"

namespace cairn::testing {
namespace {

using store::v1::BatchRecord;
using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::ModelRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;
using store::v1::TagRecord;

void Must(const absl::Status& status) {
  if (!status.ok()) CAIRN_LOG(kError, status.ToString());
  CAIRN_CHECK(status.ok());
}

std::string ContributionName(const std::string& id) {
  return absl::StrCat(kModel, "/contributions/", id);
}

// Moves a record to `state` along legal moves only.
void Walk(HubTransaction& transaction, ContributionRecord& record,
          v1::Contribution::State state) {
  using C = v1::Contribution;
  std::vector<C::State> way = {C::RECEIVED};
  if (state != C::RECEIVED) way.push_back(C::SCREENED);
  if (state == C::EVALUATED || state == C::QUEUED || state == C::NEEDS_REVIEW) {
    way.push_back(C::EVALUATED);
  }
  if (way.back() != state) way.push_back(state);
  for (C::State next : way) {
    Must(Move(record, next, transaction.now()));
    Must(transaction.Put(record));
  }
}

}  // namespace

absl::StatusOr<ReleaseRecord> FakePublisher::Build(
    const Publication& publication) {
  CAIRN_ASSIGN_OR_RETURN(auto head,
                         store_.Read().Get<ReleaseRecord>(publication.head));
  CAIRN_ASSIGN_OR_RETURN(auto all, store_.Read().ListAll<ReleaseRecord>(
                                       absl::StrCat(kModel, "/releases/")));
  ReleaseRecord record;
  record.mutable_release()->set_name(
      absl::StrCat(kModel, "/releases/v1.", all.size(), ".0"));
  record.mutable_release()->set_parent(publication.head);
  record.mutable_release()->set_digest(publication.candidate.digest());
  record.mutable_release()->set_tensor_manifest_sha256(
      publication.candidate.tensor_manifest_sha256());
  for (const std::string& name : publication.contributions) {
    record.mutable_release()->add_contributions(name);
  }
  record.set_origin(publication.origin);
  record.set_root_release(head.root_release());
  for (const auto& step : publication.line) *record.add_line() = step;
  if (!publication.line.empty() && publication.line.back().release().empty()) {
    record.mutable_line(record.line_size() - 1)
        ->set_release(record.release().name());
  }
  return record;
}

absl::Status FakePublisher::Commit(HubTransaction& transaction,
                                   const Publication& publication,
                                   ReleaseRecord release) {
  CAIRN_ASSIGN_OR_RETURN(auto latest, transaction.Get<TagRecord>(absl::StrCat(
                                          kModel, "/tags/latest")));
  if (latest.tag().release() != publication.head) {
    return absl::AbortedError("the head moved");
  }
  latest.mutable_tag()->set_release(release.release().name());
  CAIRN_RETURN_IF_ERROR(transaction.Put(latest));
  published.push_back(publication);
  return transaction.Put(release);
}

Pipeline::Pipeline() {
  worker_.user = "users/worker";
  worker_.role = v1::User::WORKER;
  worker_.trust = {kEvaluateKind, kMergeKind};
  Restart();
  const CandidateRecord base = MakeWeights({});
  Must(store_->Transact([&](HubTransaction& transaction) {
    ModelRecord model;
    model.mutable_model()->set_name(kModel);
    v1::Policy& policy = *model.mutable_model()->mutable_policy();
    policy.set_alpha(0.05);
    policy.mutable_margin()->set_perplexity(0.01);
    policy.mutable_margin()->set_accuracy(0.01);
    policy.set_unprotected_margin(0.10);
    policy.set_norm_ratio_max(3);
    policy.set_eval_dtype("float32");
    policy.set_attempts_per_day(20);
    policy.set_default_license("none");
    policy.add_licenses("MIT");
    for (double lambda : {0.2, 0.4, 1.0}) policy.add_lambda_grid(lambda);
    policy.add_review_if("no_claim");
    Must(transaction.Put(model));
    ReleaseRecord release;
    release.mutable_release()->set_name(
        absl::StrCat(kModel, "/releases/v1.0.0"));
    release.mutable_release()->set_digest(base.digest());
    release.mutable_release()->set_tensor_manifest_sha256(
        base.tensor_manifest_sha256());
    release.set_origin(ReleaseRecord::IMPORTED);
    release.set_root_release(release.release().name());
    Must(transaction.Put(release));
    TagRecord latest;
    latest.mutable_tag()->set_name(absl::StrCat(kModel, "/tags/latest"));
    latest.mutable_tag()->set_release(release.release().name());
    return transaction.Put(latest);
  }));
}

void Pipeline::Restart() {
  jobs_.reset();
  publisher_.reset();
  store_ = std::make_unique<HubStore>(faults_, clock_);
  jobs_ = std::make_unique<JobQueue>(*store_, blobs_, clock_);
  publisher_ = std::make_unique<FakePublisher>(*store_);
  v1::OpenSessionRequest request;
  request.set_instance_id("instance");
  request.set_device_class("cpu-test");
  request.add_kinds(kEvaluateKind);
  request.add_kinds(kMergeKind);
  auto session = jobs_->OpenSession(worker_, request);
  Must(session.status());
  session_ = session->name();
}

void Pipeline::SetPolicy(const std::function<void(v1::Policy&)>& edit) {
  Must(store_->Transact([&](HubTransaction& transaction) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto model, transaction.Get<ModelRecord>(kModel));
    edit(*model.mutable_model()->mutable_policy());
    return transaction.Put(model);
  }));
}

void Pipeline::AddSuite(const std::string& id, bool is_protected,
                        v1::Suite::State state) {
  Must(store_->Transact([&](HubTransaction& transaction) {
    SuiteRecord record;
    v1::Suite& suite = *record.mutable_suite();
    suite.set_name(absl::StrCat(kModel, "/suites/", id));
    suite.set_version(1);
    suite.set_kind("perplexity");
    suite.set_metric("perplexity");
    suite.set_protected_(is_protected);
    if (is_protected) {
      suite.set_margin(0.03);
      record.set_own_margin(true);
    }
    for (const char* split : {"search", "gate", "audit"}) {
      (*suite.mutable_split_items())[split] = items_;
    }
    Must(Move(record, v1::Suite::CHECKING));
    Must(transaction.Put(record));
    if (state == v1::Suite::CHECKING) return absl::OkStatus();
    Must(Move(record, state));
    return transaction.Put(record);
  }));
}

std::string Pipeline::AddContribution(const std::string& id,
                                      v1::Contribution::State state,
                                      const std::vector<std::string>& claims,
                                      const std::string& author) {
  const std::string name = ContributionName(id);
  Must(store_->Transact([&](HubTransaction& transaction) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto base,
                           transaction.Get<ReleaseRecord>(
                               absl::StrCat(kModel, "/releases/v1.0.0")));
    ContributionRecord record;
    v1::Contribution& contribution = *record.mutable_contribution();
    contribution.set_name(name);
    contribution.set_base_release(base.release().name());
    contribution.set_digest(Digest::Of(name).prefixed());
    contribution.set_author(author);
    for (const std::string& claim : claims) contribution.add_claims(claim);
    record.set_model(kModel);
    record.set_base_digest(base.release().digest());
    *record.mutable_waiting_since() = ToTimestamp(transaction.now());
    if (state == v1::Contribution::QUEUED) {
      CAIRN_ASSIGN_OR_RETURN(
          int64_t position,
          transaction.NextNumber(absl::StrCat(kModel, "/queue")));
      record.set_queue_position(position);
    }
    Walk(transaction, record, state);
    return absl::OkStatus();
  }));
  return name;
}

v1::Contribution Pipeline::Contribution(const std::string& id) const {
  return Get<ContributionRecord>(ContributionName(id)).contribution();
}

std::string Pipeline::State(const std::string& id) const {
  return v1::Contribution::State_Name(Contribution(id).state());
}

v1::Batch Pipeline::LastBatch() const {
  auto all =
      store_->Read().ListAll<BatchRecord>(absl::StrCat(kModel, "/batches/"));
  Must(all.status());
  CAIRN_CHECK(!all->empty());
  return all->back().batch();
}

std::string Pipeline::Head() const {
  return std::string(ShortName(store_->Read().Head(kModel)->release().name()));
}

void Pipeline::RunAll(const std::vector<Stage*>& stages) {
  for (bool moves = true; moves;) {
    moves = false;
    for (Stage* stage : stages) {
      auto moved = stage->RunPass();
      Must(moved.status());
      moves = moves || *moved > 0;
    }
    moves = WorkOnce() || moves;
  }
}

bool Pipeline::WorkOnce() {
  auto leased = jobs_->Lease(worker_, session_);
  if (absl::IsUnavailable(leased.status())) return false;
  Must(leased.status());
  if (!leased->has_lease()) return false;
  v1::CompleteJobRequest done;
  done.set_session(session_);
  done.set_job(leased->lease().job());
  done.set_fencing_token(leased->lease().fencing_token());
  std::optional<v1::JobFailure> planned;
  if (failure) planned = failure(leased->lease().spec());
  if (planned.has_value()) {
    *done.mutable_failure() = *planned;
  } else {
    v1::JobResult answer = Answer(leased->lease().spec());
    if (tamper) tamper(leased->lease().spec(), answer);
    auto blob = blobs_.Put(answer.SerializeAsString());
    Must(blob.status());
    done.set_result_sha256(blob->hex());
  }
  const absl::Status completed = jobs_->Complete(worker_, done);
  if (absl::IsUnavailable(completed)) return false;
  Must(completed);
  jobs_done.push_back(leased->lease().spec());
  return true;
}

std::set<std::string> Pipeline::MergedInto(const v1::ModelInput& input) const {
  return merged_by_digest_.at(DigestOf(input));
}

CandidateRecord Pipeline::MakeWeights(const std::set<std::string>& merged) {
  // Of one size, so that shapes agree whatever was merged.
  std::string bytes = absl::StrJoin(merged, "+");
  bytes.resize(4096, ' ');
  auto blob = blobs_.Put(bytes);
  Must(blob.status());
  v1::TensorManifest manifest;
  v1::Tensor& tensor = *manifest.add_tensors();
  tensor.set_name("w");
  tensor.set_dtype("U8");
  tensor.add_shape(4096);
  tensor.set_sha256(blob->hex());
  tensor.set_size_bytes(4096);
  auto stored = blobs_.Put(SerializeTensorManifest(manifest));
  Must(stored.status());
  CandidateRecord weights;
  weights.set_tensor_manifest_sha256(stored->hex());
  weights.set_digest(ReleaseDigest(manifest, absl::Span<const v1::File>()));
  merged_by_digest_[weights.digest()] = merged;
  return weights;
}

v1::SplitScores Pipeline::Score(const std::set<std::string>& merged,
                                const v1::SuiteInput& suite,
                                const std::string& split) {
  v1::SplitScores scores;
  scores.set_suite(suite.suite());
  scores.set_suite_version(suite.version());
  scores.set_split(split);
  scores.set_metric("perplexity");
  const double gain = effect(merged, std::string(ShortName(suite.suite())));
  double sum = 0;
  for (int i = 0; i < items_; ++i) {
    // Items differ much from each other, and a little in what they gain.
    const double wobble = 0.002 * std::sin(i + 7.0 * gain);
    const double nll = 2.0 + std::sin(3.0 * i) + std::log1p(-gain) +
                       (merged.empty() ? 0 : wobble);
    scores.add_scores(-100 * nll);
    scores.add_tokens(100);
    sum += nll;
  }
  scores.set_value(std::exp(sum / items_));
  return scores;
}

void Pipeline::Explain(const v1::SearchSpec& search,
                       const std::set<std::string>& head,
                       const std::set<std::string>& merged,
                       v1::SearchResult& found) {
  std::set<std::string> chance = head;
  chance.insert("placebo");
  auto& point = *found.add_points();
  for (const auto& suite : search.suites()) {
    *point.add_scores() = Score(merged, suite, "search");
    *found.add_placebo() = Score(chance, suite, "search");
  }
  if (!search.leave_one_out()) return;
  for (const auto& update : search.updates()) {
    std::set<std::string> rest = merged;
    rest.erase(std::string(ShortName(update.contribution())));
    auto& without = *found.add_without();
    without.set_contribution(update.contribution());
    for (const auto& suite : search.suites()) {
      *without.add_scores() = Score(rest, suite, "search");
    }
  }
}

v1::JobResult Pipeline::Answer(const v1::JobSpec& spec) {
  v1::JobResult result;
  result.set_device_class("cpu-test");
  auto with = [](std::set<std::string> merged, const v1::UpdateInput& update) {
    merged.insert(std::string(ShortName(update.contribution())));
    return merged;
  };
  if (spec.has_merge()) {
    std::set<std::string> merged = MergedInto(spec.merge().head());
    for (const auto& update : spec.merge().updates()) {
      merged = with(merged, update);
    }
    const CandidateRecord weights = MakeWeights(merged);
    result.mutable_merge()->set_digest(weights.digest());
    result.mutable_merge()->set_tensor_manifest_sha256(
        weights.tensor_manifest_sha256());
    result.mutable_merge()->mutable_record()->set_strategy(
        spec.merge().strategy());
    return result;
  }
  if (spec.has_search()) {
    v1::SearchResult& found = *result.mutable_search();
    const std::set<std::string> head = MergedInto(spec.search().head());
    std::set<std::string> merged = head;
    for (const auto& update : spec.search().updates()) {
      merged = with(merged, update);
    }
    for (const auto& suite : spec.search().suites()) {
      if (suite.score_base()) *found.add_base() = Score(head, suite, "search");
    }
    if (spec.search().attribute()) Explain(spec.search(), head, merged, found);
    for (double lambda : spec.search().lambdas()) {
      auto& point = *found.add_points();
      point.set_lambda(lambda);
      std::set<std::string> at = merged;
      at.insert(absl::StrCat("lambda=", lambda));
      for (const auto& suite : spec.search().suites()) {
        *point.add_scores() = Score(at, suite, "search");
      }
    }
    return result;
  }
  const v1::EvaluateSpec& work = spec.evaluate();
  v1::EvaluateResult& scored = *result.mutable_evaluate();
  const std::set<std::string> base = MergedInto(work.base());
  scored.set_base_digest(DigestOf(work.base()));
  if (work.has_candidate())
    scored.set_candidate_digest(DigestOf(work.candidate()));
  for (const auto& suite : work.suites()) {
    for (const std::string& split : suite.splits()) {
      if (suite.score_base()) *scored.add_base() = Score(base, suite, split);
      if (work.has_update()) {
        const v1::SplitScores whole =
            Score(with(base, work.update()), suite, split);
        *scored.add_candidate() =
            suite.items().empty() ? whole : PartOf(whole, suite.items());
      } else if (work.has_candidate()) {
        *scored.add_candidate() =
            Score(MergedInto(work.candidate()), suite, split);
      }
    }
  }
  return result;
}

}  // namespace cairn::testing
