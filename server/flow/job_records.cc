#include "server/flow/job_records.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "server/flow/contribution_state.h"

namespace cairn {
namespace {

using store::v1::CandidateRecord;
using store::v1::ContributionRecord;
using store::v1::JobRecord;
using store::v1::ReleaseRecord;
using store::v1::SuiteRecord;

// Per-item scores of the largest suites (256 MiB of items of a few tokens)
// stay below this.
constexpr int64_t kJobResultBytesMax = int64_t{256} << 20;
// 100,000 tensors with long names.
constexpr int64_t kTensorManifestBytesMax = int64_t{64} << 20;

}  // namespace

std::string KindOf(const v1::JobSpec& spec) {
  return spec.has_evaluate() ? kEvaluateKind : kMergeKind;
}

absl::StatusOr<std::string> EnqueueJob(HubTransaction& transaction,
                                       const JobRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(int64_t number, transaction.NextNumber("jobs"));
  JobRecord job;
  job.set_name(absl::StrCat("jobs/j", number));
  job.set_kind(KindOf(request.spec));
  job.set_model(request.model);
  job.set_subject(request.subject);
  *job.mutable_spec() = request.spec;
  for (const std::string& instance : request.excluded_instances) {
    job.add_excluded_instances(instance);
  }
  *job.mutable_create_time() = ToTimestamp(transaction.now());
  CAIRN_RETURN_IF_ERROR(Move(job, JobRecord::PENDING, transaction.now()));
  CAIRN_RETURN_IF_ERROR(transaction.Put(job));
  return job.name();
}

absl::Status CancelJob(HubTransaction& transaction, absl::string_view job,
                       absl::string_view why) {
  if (job.empty()) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(auto record, transaction.Find<JobRecord>(job));
  if (!record.has_value() || IsOver(record->state())) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(Move(*record, JobRecord::FAILED, transaction.now()));
  record->mutable_failure()->set_message(std::string(why));
  record->clear_lease();
  return transaction.Put(*record);
}

v1::ReleaseInput MakeReleaseInput(const ReleaseRecord& release) {
  v1::ReleaseInput input;
  input.set_name(release.release().name());
  input.set_digest(release.release().digest());
  *input.mutable_files() = release.release().files();
  input.set_tensor_manifest_sha256(release.release().tensor_manifest_sha256());
  return input;
}

v1::ModelInput MakeModelInput(const ReleaseRecord& release) {
  v1::ModelInput input;
  *input.mutable_release() = MakeReleaseInput(release);
  return input;
}

v1::ModelInput MakeModelInput(const ReleaseRecord& release,
                              const CandidateRecord& candidate) {
  if (candidate.digest() == release.release().digest()) {
    return MakeModelInput(release);
  }
  v1::ModelInput input;
  *input.mutable_candidate()->mutable_release() = MakeReleaseInput(release);
  input.mutable_candidate()->set_tensor_manifest_sha256(
      candidate.tensor_manifest_sha256());
  input.mutable_candidate()->set_digest(candidate.digest());
  return input;
}

absl::StatusOr<v1::UpdateInput> MakeUpdateInput(
    const HubReader& reader, const ContributionRecord& record) {
  const v1::Contribution& contribution = record.contribution();
  v1::UpdateInput input;
  input.set_contribution(contribution.name());
  input.set_digest(contribution.digest());
  input.set_encoding(contribution.encoding());
  *input.mutable_files() = contribution.files();
  CAIRN_ASSIGN_OR_RETURN(
      auto base, reader.Get<ReleaseRecord>(contribution.base_release()));
  *input.mutable_base() = MakeReleaseInput(base);
  return input;
}

v1::SuiteInput MakeSuiteInput(const SuiteRecord& suite,
                              const std::vector<std::string>& splits) {
  v1::SuiteInput input;
  input.set_suite(suite.suite().name());
  input.set_version(suite.suite().version());
  *input.mutable_files() = suite.files();
  for (const std::string& split : splits) input.add_splits(split);
  return input;
}

std::string EvalDtype(const v1::Policy& policy) {
  return policy.eval_dtype().empty() ? "float32" : policy.eval_dtype();
}

std::string DigestOf(const v1::ModelInput& input) {
  return input.has_candidate() ? input.candidate().digest()
                               : input.release().digest();
}

absl::StatusOr<std::string> ReadBlob(const BlobStore& blobs,
                                     absl::string_view sha256,
                                     int64_t bytes_max) {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(sha256));
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs.Open(digest));
  if (source->size() > bytes_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("blob ", sha256, " has ", source->size(),
                     " bytes; at most ", bytes_max, " are read at once"));
  }
  std::string bytes(static_cast<size_t>(source->size()), '\0');
  CAIRN_RETURN_IF_ERROR(source->ReadAt(0, absl::MakeSpan(bytes)));
  return bytes;
}

absl::StatusOr<v1::JobResult> ReadJobResult(const BlobStore& blobs,
                                            const JobRecord& job) {
  CAIRN_ASSIGN_OR_RETURN(std::string bytes, ReadBlob(blobs, job.result_sha256(),
                                                     kJobResultBytesMax));
  v1::JobResult result;
  if (!result.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat("the result of ", job.name(), " cannot be parsed"));
  }
  return result;
}

absl::StatusOr<v1::TensorManifest> ReadTensorManifest(
    const BlobStore& blobs, absl::string_view sha256) {
  CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                         ReadBlob(blobs, sha256, kTensorManifestBytesMax));
  v1::TensorManifest manifest;
  if (!manifest.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat("the tensor manifest ", sha256, " cannot be parsed"));
  }
  return manifest;
}

std::string WaitingFor(const WorkerPresence& workers, const JobRecord& job) {
  if (job.state() != JobRecord::PENDING || workers.HasWorker(job.kind())) {
    return "";
  }
  return absl::StrCat("a worker that runs jobs of kind '", job.kind(),
                      "'; start one with cairn-worker");
}

}  // namespace cairn
