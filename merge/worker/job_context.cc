#include "merge/worker/job_context.h"

#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/delta/update_delta.h"

namespace cairn {
namespace {

// A file of the release in which the bytes of some tensors come from blobs.
absl::StatusOr<SharedSource> ReplaceTensors(const SharedSource& file,
                                            const SafetensorsHeader& header,
                                            const v1::TensorManifest& candidate,
                                            const v1::TensorManifest& release,
                                            const JobLayout& layout) {
  std::vector<SharedSource> parts;
  parts.push_back(MakeSliceSource(file, 0, header.header_bytes()));
  for (const TensorEntry& tensor : header.tensors()) {
    const v1::Tensor* wanted = FindTensor(candidate, tensor.name);
    const v1::Tensor* before = FindTensor(release, tensor.name);
    if (wanted == nullptr || before == nullptr ||
        wanted->size_bytes() != before->size_bytes()) {
      return absl::DataLossError(absl::StrCat(
          "the candidate's manifest does not fit tensor ", tensor.name));
    }
    if (wanted->sha256() == before->sha256()) {
      parts.push_back(
          MakeSliceSource(file, tensor.begin, tensor.end - tensor.begin));
      continue;
    }
    CAIRN_ASSIGN_OR_RETURN(SharedSource blob,
                           OpenFileSource(layout.Blob(wanted->sha256())));
    parts.push_back(std::move(blob));
  }
  return SharedSource(MakeConcatSource(std::move(parts)));
}

absl::StatusOr<Checkpoint> OpenCandidate(const v1::CandidateInput& input,
                                         const JobLayout& layout) {
  auto read_manifest =
      [&](const std::string& sha256) -> absl::StatusOr<v1::TensorManifest> {
    CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                           ReadFile(layout.Blob(sha256), int64_t{1} << 30));
    return ParseTensorManifest(bytes);
  };
  CAIRN_ASSIGN_OR_RETURN(v1::TensorManifest candidate,
                         read_manifest(input.tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(
      v1::TensorManifest release,
      read_manifest(input.release().tensor_manifest_sha256()));
  CAIRN_ASSIGN_OR_RETURN(
      Checkpoint original,
      Checkpoint::OpenDirectory(layout.Release(input.release().digest())));
  FileMap files = original.files();
  for (const auto& [path, header] : original.headers()) {
    CAIRN_ASSIGN_OR_RETURN(files[path],
                           ReplaceTensors(original.files().at(path), header,
                                          candidate, release, layout));
  }
  return Checkpoint::Open(std::move(files));
}

}  // namespace

absl::StatusOr<JobWeights> OpenWeights(const v1::ModelInput& input,
                                       const JobContext& context) {
  JobWeights weights;
  std::string name, digest;
  if (input.has_release()) {
    name = input.release().name();
    digest = input.release().digest();
    CAIRN_ASSIGN_OR_RETURN(
        weights.checkpoint,
        Checkpoint::OpenDirectory(context.layout.Release(digest)));
  } else if (input.has_candidate()) {
    name = absl::StrCat("candidate on ", input.candidate().release().name());
    digest = input.candidate().digest();
    CAIRN_ASSIGN_OR_RETURN(weights.checkpoint,
                           OpenCandidate(input.candidate(), context.layout));
  } else {
    return absl::InvalidArgumentError("the job names no weights");
  }
  CAIRN_ASSIGN_OR_RETURN(weights.identity,
                         IdentifyModel(weights.checkpoint, context.threads));
  if (absl::StripPrefix(weights.identity.digest, "sha256:") !=
      absl::StripPrefix(digest, "sha256:")) {
    return absl::InternalError(absl::StrCat(
        "the worker's copy of ", name, " is damaged: its digest is ",
        weights.identity.digest, " instead of ", digest));
  }
  return weights;
}

absl::StatusOr<JobUpdate> OpenJobUpdate(const v1::UpdateInput& input,
                                        size_t index,
                                        const JobContext& context) {
  JobUpdate opened;
  CAIRN_ASSIGN_OR_RETURN(
      Checkpoint base,
      Checkpoint::OpenDirectory(context.layout.Release(input.base().digest())));
  opened.base = std::make_unique<Checkpoint>(std::move(base));
  auto update = OpenUpdateOn(*opened.base, context.layout.Update(index));
  if (!update.ok()) return Annotate(update.status(), input.contribution());
  opened.update = *std::move(update);
  return opened;
}

}  // namespace cairn
