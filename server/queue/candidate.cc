#include "server/queue/candidate.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/contribution_state.h"
#include "server/flow/reasons.h"
#include "server/gate/holdout.h"

namespace cairn {
namespace {

using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::LineStep;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;

// Same names, dtypes and shapes: so the files keep their headers.
absl::Status CheckLayout(const v1::TensorManifest& head,
                         const v1::TensorManifest& merged) {
  if (head.tensors_size() != merged.tensors_size()) {
    return absl::DataLossError(
        absl::StrCat("the merge has ", merged.tensors_size(),
                     " tensors; the head has ", head.tensors_size()));
  }
  for (int i = 0; i < head.tensors_size(); ++i) {
    const v1::Tensor& a = head.tensors(i);
    const v1::Tensor& b = merged.tensors(i);
    const bool same = a.name() == b.name() && a.dtype() == b.dtype() &&
                      a.size_bytes() == b.size_bytes() &&
                      a.file() == b.file() &&
                      a.file_offset() == b.file_offset() &&
                      std::equal(a.shape().begin(), a.shape().end(),
                                 b.shape().begin(), b.shape().end());
    if (!same) {
      return absl::DataLossError(absl::StrCat(
          "tensor ", b.name(), " of the merge is not laid out like tensor ",
          a.name(), " of the head"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckBlobs(const BlobStore& blobs, const v1::TensorManifest& head,
                        const v1::TensorManifest& merged) {
  for (int i = 0; i < merged.tensors_size(); ++i) {
    const v1::Tensor& tensor = merged.tensors(i);
    if (tensor.sha256() == head.tensors(i).sha256()) continue;
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(tensor.sha256()));
    auto stat = blobs.Stat(digest);
    if (!stat.ok() || stat->size_bytes != tensor.size_bytes()) {
      return absl::DataLossError(
          absl::StrCat("the bytes of merged tensor ", tensor.name(),
                       " were not uploaded: no blob ", tensor.sha256(), " of ",
                       tensor.size_bytes(), " bytes"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<JobOutcome> LookAtJob(const HubReader& reader,
                                     const BlobStore& blobs,
                                     absl::string_view name) {
  JobOutcome outcome;
  CAIRN_ASSIGN_OR_RETURN(auto job, reader.Find<JobRecord>(name));
  if (!job.has_value()) {
    outcome.kind = JobOutcome::Kind::kFailed;
    outcome.failure =
        MakeReason(v1::Reason::EVALUATION_FAILED,
                   absl::StrCat(name, " is so long over that it is forgotten"));
    return outcome;
  }
  outcome.job = *std::move(job);
  if (outcome.job.state() == JobRecord::FAILED) {
    outcome.kind = JobOutcome::Kind::kFailed;
    outcome.failure = outcome.job.failure();
  } else if (outcome.job.state() == JobRecord::DONE) {
    auto result = ReadJobResult(blobs, outcome.job);
    if (result.ok()) {
      outcome.kind = JobOutcome::Kind::kDone;
      outcome.result = *std::move(result);
    } else {
      outcome.kind = JobOutcome::Kind::kFailed;
      outcome.failure = MakeReason(v1::Reason::EVALUATION_FAILED,
                                   std::string(result.status().message()));
    }
  }
  return outcome;
}

absl::StatusOr<v1::JobSpec> MakeMergeSpec(const HubReader& reader,
                                          const v1::ModelInput& head,
                                          const LineStep& step,
                                          v1::MergeSpec::Output output) {
  v1::JobSpec spec;
  v1::MergeSpec& merge = *spec.mutable_merge();
  *merge.mutable_head() = head;
  for (const std::string& name : step.contributions()) {
    CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<ContributionRecord>(name));
    CAIRN_ASSIGN_OR_RETURN(*merge.add_updates(),
                           MakeUpdateInput(reader, record));
  }
  merge.set_strategy(step.strategy());
  *merge.mutable_parameters() = step.parameters();
  merge.set_seed(step.seed());
  merge.set_output(output);
  return spec;
}

absl::StatusOr<CandidateRecord> TakeCandidate(const BlobStore& blobs,
                                              const ReleaseRecord& release,
                                              const v1::MergeSpec& spec,
                                              const v1::JobResult& result) {
  const v1::MergeResult& merged = result.merge();
  CAIRN_ASSIGN_OR_RETURN(
      auto head,
      ReadTensorManifest(blobs, release.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(
      auto tensors, ReadTensorManifest(blobs, merged.tensor_manifest_sha256()));
  CAIRN_RETURN_IF_ERROR(CheckLayout(head, tensors));
  CAIRN_RETURN_IF_ERROR(CheckBlobs(blobs, head, tensors));
  const std::string digest = ReleaseDigest(tensors, release.release().files());
  if (digest != merged.digest()) {
    return absl::DataLossError(
        absl::StrCat("the merge is said to have the digest ", merged.digest(),
                     ", but its tensors have ", digest));
  }
  CandidateRecord candidate;
  for (const v1::UpdateInput& update : spec.updates()) {
    candidate.add_contributions(update.contribution());
  }
  candidate.set_release(release.release().name());
  candidate.set_tensor_manifest_sha256(merged.tensor_manifest_sha256());
  candidate.set_digest(digest);
  *candidate.mutable_merge_record() = merged.record();
  candidate.mutable_merge_record()->set_digest(digest);
  candidate.mutable_merge_record()->set_device_class(result.device_class());
  return candidate;
}

std::vector<SuiteRecord> SuitesWith(const std::vector<SuiteRecord>& suites,
                                    absl::string_view split) {
  std::vector<SuiteRecord> out;
  for (const SuiteRecord& suite : suites) {
    if (suite.suite().split_items().contains(std::string(split))) {
      out.push_back(suite);
    }
  }
  return out;
}

v1::JobSpec MakeJudgeSpec(const v1::ModelInput& head,
                          const v1::ModelInput& candidate,
                          const std::vector<SuiteRecord>& suites,
                          const std::vector<std::string>& splits,
                          const v1::Policy& policy) {
  v1::JobSpec spec;
  v1::EvaluateSpec& work = *spec.mutable_evaluate();
  *work.mutable_base() = head;
  *work.mutable_candidate() = candidate;
  for (const SuiteRecord& suite : suites) {
    *work.add_suites() = MakeSuiteInput(suite, splits);
  }
  SetComputation(policy, work);
  return spec;
}

absl::StatusOr<std::vector<GateSuite>> PairCandidate(
    const HubReader& reader, const JobRecord& job, const v1::JobResult& result,
    absl::string_view split, const v1::Policy& policy,
    const std::set<std::string>& claims) {
  const v1::EvaluateSpec& spec = job.spec().evaluate();
  const v1::EvaluateResult& scored = result.evaluate();
  if (scored.candidate_digest() != DigestOf(spec.candidate())) {
    return absl::DataLossError(absl::StrCat(
        "the worker scored weights of digest '", scored.candidate_digest(),
        "' instead of ", DigestOf(spec.candidate())));
  }
  if (!scored.base_digest().empty() &&
      scored.base_digest() != DigestOf(spec.base())) {
    return absl::DataLossError(absl::StrCat(
        "the worker scored a head of digest '", scored.base_digest(),
        "' instead of ", DigestOf(spec.base())));
  }
  std::vector<SuiteRecord> suites;
  for (const v1::SuiteInput& input : spec.suites()) {
    CAIRN_ASSIGN_OR_RETURN(auto suite, reader.Get<SuiteRecord>(SuiteVersionName(
                                           input.suite(), input.version())));
    suites.push_back(std::move(suite));
  }
  const ScoreKey base{.digest = DigestOf(spec.base()),
                      .device_class = result.device_class(),
                      .dtype = spec.dtype()};
  return PairScores(reader, base, scored.base(), scored.candidate(), suites,
                    split, policy, claims);
}

absl::Status RememberCandidateScores(HubTransaction& transaction,
                                     const JobRecord& job,
                                     const v1::JobResult& result) {
  const v1::EvaluateSpec& spec = job.spec().evaluate();
  ScoreKey key{.digest = DigestOf(spec.base()),
               .device_class = result.device_class(),
               .dtype = spec.dtype()};
  CAIRN_RETURN_IF_ERROR(
      RememberScores(transaction, key, result.evaluate().base()));
  key.digest = DigestOf(spec.candidate());
  return RememberScores(transaction, key, result.evaluate().candidate());
}

absl::StatusOr<std::set<std::string>> ClaimsOf(
    const HubReader& reader, const std::vector<std::string>& contributions) {
  std::set<std::string> claims;
  for (const std::string& name : contributions) {
    CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<ContributionRecord>(name));
    claims.insert(record.contribution().claims().begin(),
                  record.contribution().claims().end());
  }
  return claims;
}

absl::Status ChargeMembers(HubTransaction& transaction,
                           const std::vector<std::string>& members,
                           const JobRecord& job,
                           v1::Verdict::Decision decision) {
  std::set<std::string> organisations;
  for (const std::string& name : members) {
    CAIRN_ASSIGN_OR_RETURN(auto member,
                           transaction.Get<ContributionRecord>(name));
    CAIRN_ASSIGN_OR_RETURN(
        std::string organisation,
        OrganisationOf(transaction, member.contribution().author()));
    organisations.insert(std::move(organisation));
  }
  std::vector<SuiteRecord> suites;
  for (const v1::SuiteInput& input : job.spec().evaluate().suites()) {
    CAIRN_ASSIGN_OR_RETURN(suites.emplace_back(),
                           transaction.Get<SuiteRecord>(SuiteVersionName(
                               input.suite(), input.version())));
  }
  return ChargeMerge(transaction, organisations, suites, decision);
}

}  // namespace cairn
