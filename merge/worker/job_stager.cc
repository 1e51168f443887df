#include "merge/worker/job_stager.h"

#include <filesystem>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "cairn/v1/job.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/rpc/blob_download.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/worker/job_inputs.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

class Stager {
 public:
  Stager(HubChannel& hub, const v1::Lease& lease, const JobLayout& layout)
      : hub_(hub), lease_(lease), layout_(layout) {}

  // Files of an update or a suite, each a blob that the lease names.
  template <typename Files>
  absl::Status FetchFiles(const Files& files, const std::string& directory) {
    for (const v1::File& file : files) {
      CAIRN_RETURN_IF_ERROR(CheckRelativePath(file.path()));
      const fs::path target = fs::path(directory) / file.path();
      CAIRN_RETURN_IF_ERROR(MakeDirectory(target.parent_path()));
      CAIRN_RETURN_IF_ERROR(
          Annotate(DownloadFile(hub_, Leased(file.sha256()), file.sha256(),
                                file.size_bytes(), target),
                   absl::StrCat("fetch ", file.path())));
    }
    return absl::OkStatus();
  }

  // A candidate's manifest and those of its tensors that its release has not.
  absl::Status FetchCandidate(const v1::CandidateInput& candidate) {
    CAIRN_RETURN_IF_ERROR(MakeDirectory(layout_.blob_directory()));
    CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                           FetchManifest(candidate.tensor_manifest_sha256()));
    CAIRN_ASSIGN_OR_RETURN(v1::TensorManifest manifest,
                           ParseTensorManifest(bytes));
    const std::string& head_sha256 =
        candidate.release().tensor_manifest_sha256();
    CAIRN_ASSIGN_OR_RETURN(bytes, FetchManifest(head_sha256));
    CAIRN_ASSIGN_OR_RETURN(v1::TensorManifest head, ParseTensorManifest(bytes));
    for (const v1::Tensor& tensor : manifest.tensors()) {
      const v1::Tensor* before = FindTensor(head, tensor.name());
      if (before != nullptr && before->sha256() == tensor.sha256()) continue;
      CAIRN_RETURN_IF_ERROR(Annotate(
          DownloadFile(hub_, Leased(tensor.sha256()), tensor.sha256(),
                       tensor.size_bytes(), layout_.Blob(tensor.sha256())),
          absl::StrCat("fetch tensor ", tensor.name())));
    }
    return absl::OkStatus();
  }

 private:
  v1::ReadRequest Leased(const std::string& sha256) const {
    v1::ReadRequest request;
    v1::LeasedBlob& blob = *request.mutable_leased_blob();
    blob.set_job(lease_.job());
    blob.set_fencing_token(lease_.fencing_token());
    blob.set_sha256(sha256);
    return request;
  }

  // Keeps a manifest as a blob of the job and returns its bytes.
  absl::StatusOr<std::string> FetchManifest(const std::string& sha256) {
    auto bytes = DownloadBytes(hub_, Leased(sha256), sha256);
    if (!bytes.ok()) return Annotate(bytes.status(), "fetch tensor manifest");
    CAIRN_RETURN_IF_ERROR(WriteFile(layout_.Blob(sha256), *bytes));
    return bytes;
  }

  HubChannel& hub_;
  const v1::Lease& lease_;
  const JobLayout& layout_;
};

}  // namespace

absl::Status StageJob(HubChannel& hub, const v1::Lease& lease,
                      ReleaseCache& releases, const JobLayout& layout) {
  const JobInputs inputs = InputsOf(lease.spec());
  std::set<std::string> in_use;
  for (const auto* release : inputs.releases) in_use.insert(release->digest());
  for (const auto* release : inputs.releases) {
    CAIRN_RETURN_IF_ERROR(releases.Fetch(hub, *release, in_use));
  }
  Stager stager(hub, lease, layout);
  for (const auto* candidate : inputs.candidates) {
    CAIRN_RETURN_IF_ERROR(stager.FetchCandidate(*candidate));
  }
  for (size_t i = 0; i < inputs.updates.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(
        stager.FetchFiles(inputs.updates[i]->files(), layout.Update(i)));
  }
  for (size_t i = 0; i < inputs.suites.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(
        stager.FetchFiles(inputs.suites[i]->files(), layout.Suite(i)));
  }
  return WriteFile(layout.spec_file(), lease.spec().SerializeAsString());
}

}  // namespace cairn
