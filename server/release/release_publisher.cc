#include "server/release/release_publisher.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/contribution_state.h"
#include "server/flow/delta_records.h"
#include "server/flow/resource_names.h"
#include "server/release/file_assembly.h"
#include "server/release/release_builder.h"
#include "server/release/release_resolver.h"

namespace cairn {
namespace {

using store::v1::FileSegments;
using store::v1::ReleaseRecord;
using store::v1::TagRecord;

constexpr int64_t kManifestBytesMax = int64_t{256} << 20;

absl::StatusOr<v1::TensorManifest> ReadTensors(const BlobStore& blobs,
                                               const std::string& sha256) {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(sha256));
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs.Open(digest));
  CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                         ReadAll(*source, kManifestBytesMax));
  return ParseTensorManifest(bytes);
}

absl::Status DoesNotFit(absl::string_view tensor, absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the candidate's tensor '", tensor, "' ", what,
                   "; a merge keeps names, dtypes and shapes of its head"));
}

// The base's manifest with the candidate's digests.
absl::StatusOr<v1::TensorManifest> ReplaceDigests(
    v1::TensorManifest base, const v1::TensorManifest& candidate) {
  for (v1::Tensor& tensor : *base.mutable_tensors()) {
    const v1::Tensor* merged = FindTensor(candidate, tensor.name());
    if (merged == nullptr) return DoesNotFit(tensor.name(), "is missing");
    if (merged->dtype() != tensor.dtype() ||
        !std::equal(merged->shape().begin(), merged->shape().end(),
                    tensor.shape().begin(), tensor.shape().end())) {
      return DoesNotFit(tensor.name(), "has another dtype or shape");
    }
    tensor.set_sha256(merged->sha256());
  }
  if (base.tensors_size() != candidate.tensors_size()) {
    return absl::DataLossError(
        absl::StrCat("the candidate has ", candidate.tensors_size(),
                     " tensors; its head ", base.tensors_size()));
  }
  return base;
}

// Tensors by the file that holds them, in the order of their bytes.
std::map<std::string, std::vector<const v1::Tensor*>> ByFile(
    const v1::TensorManifest& tensors) {
  std::map<std::string, std::vector<const v1::Tensor*>> out;
  for (const v1::Tensor& tensor : tensors.tensors()) {
    out[tensor.file()].push_back(&tensor);
  }
  for (auto& [file, list] : out) {
    // Empty tensors share an offset with their successor; the name decides as
    // in a stable order of equal offsets, and their bytes are the same.
    std::stable_sort(list.begin(), list.end(),
                     [](const v1::Tensor* a, const v1::Tensor* b) {
                       return std::pair(a->file_offset(), a->size_bytes()) <
                              std::pair(b->file_offset(), b->size_bytes());
                     });
  }
  return out;
}

// The file with its tensors' blobs replaced; false when nothing changed.
absl::StatusOr<bool> ReplaceSegments(
    const std::vector<const v1::Tensor*>& tensors, FileSegments& file) {
  if (static_cast<size_t>(file.segments_size()) != tensors.size() + 1) {
    return absl::DataLossError(
        absl::StrCat(file.path(), " has ", file.segments_size(),
                     " stored segments for ", tensors.size(), " tensors"));
  }
  bool changed = false;
  for (size_t i = 0; i < tensors.size(); ++i) {
    auto& segment = *file.mutable_segments(static_cast<int>(i) + 1);
    if (segment.size_bytes() != tensors[i]->size_bytes()) {
      return absl::DataLossError(
          absl::StrCat(file.path(), ": segment ", i + 1, " has ",
                       segment.size_bytes(), " bytes; tensor '",
                       tensors[i]->name(), "' has ", tensors[i]->size_bytes()));
    }
    changed |= segment.sha256() != tensors[i]->sha256();
    segment.set_sha256(tensors[i]->sha256());
  }
  return changed;
}

// The files of `base` with the tensors of `tensors`; only files that changed
// are read and hashed.
absl::StatusOr<CheckpointFiles> Assemble(const BlobStore& blobs,
                                         const ReleaseRecord& base,
                                         v1::TensorManifest tensors) {
  CheckpointFiles out;
  out.tensors = std::move(tensors);
  auto by_file = ByFile(out.tensors);
  std::map<std::string, const v1::File*> described;
  for (const v1::File& file : base.release().files()) {
    described[file.path()] = &file;
  }
  for (FileSegments file : base.files()) {
    if (file.path() == kReleaseDocumentFile) continue;
    bool changed = false;
    if (auto found = by_file.find(file.path()); found != by_file.end()) {
      CAIRN_ASSIGN_OR_RETURN(changed, ReplaceSegments(found->second, file));
    }
    if (changed) {
      CAIRN_ASSIGN_OR_RETURN(SharedSource source, OpenAssembled(blobs, file));
      CAIRN_ASSIGN_OR_RETURN(v1::File now, DescribeFile(file.path(), *source));
      out.files.push_back(std::move(now));
    } else {
      auto same = described.find(file.path());
      if (same == described.end()) {
        return absl::DataLossError(absl::StrCat(base.release().name(),
                                                " does not describe its file ",
                                                file.path()));
      }
      out.files.push_back(*same->second);
    }
    out.segments.push_back(std::move(file));
  }
  return out;
}

}  // namespace

absl::StatusOr<ReleaseRecord> ReleasePublisher::Build(
    const Publication& publication) {
  CAIRN_ASSIGN_OR_RETURN(ModelName model, ModelName::Parse(publication.model));
  HubSnapshot snapshot = store_.Read();
  CAIRN_ASSIGN_OR_RETURN(auto head,
                         snapshot.Get<ReleaseRecord>(publication.head));
  CAIRN_ASSIGN_OR_RETURN(
      auto base, snapshot.Get<ReleaseRecord>(publication.candidate.release()));
  CAIRN_ASSIGN_OR_RETURN(auto highest, HighestVersion(snapshot, model));
  CAIRN_ASSIGN_OR_RETURN(
      auto tensors,
      ReadTensors(blobs_, base.release().tensor_manifest_sha256()));
  if (!publication.candidate.tensor_manifest_sha256().empty()) {
    CAIRN_ASSIGN_OR_RETURN(
        auto merged,
        ReadTensors(blobs_, publication.candidate.tensor_manifest_sha256()));
    CAIRN_ASSIGN_OR_RETURN(tensors, ReplaceDigests(std::move(tensors), merged));
  }
  CAIRN_ASSIGN_OR_RETURN(CheckpointFiles files,
                         Assemble(blobs_, base, std::move(tensors)));
  CAIRN_RETURN_IF_ERROR(Failpoint("release.assembled"));
  std::string digest = ReleaseDigest(files.tensors, files.files);
  if (digest != publication.candidate.digest()) {
    return absl::DataLossError(absl::StrCat(
        "what would be published is ", digest, " and what was evaluated is ",
        publication.candidate.digest(), "; nothing is published"));
  }
  const ReleaseVersion last = highest.value_or(ReleaseVersion());
  ReleaseContent content{.model = model,
                         .version = publication.origin == ReleaseRecord::MERGED
                                        ? last.NextMinor()
                                        : last.NextPatch(),
                         .origin = publication.origin,
                         .parent = publication.head,
                         .parent_digest = head.release().digest(),
                         .checkpoint = std::move(files),
                         .contributions = publication.contributions,
                         .added = publication.added,
                         .merge_record = std::nullopt,
                         .reports = publication.reports,
                         .license = head.release().license(),
                         .attribution = std::nullopt};
  if (publication.candidate.has_merge_record()) {
    content.merge_record = publication.candidate.merge_record();
  }
  if (publication.attribution.ByteSizeLong() > 0) {
    content.attribution = publication.attribution;
  }
  CAIRN_ASSIGN_OR_RETURN(
      ReleaseRecord record,
      BuildRelease(blobs_, signer_, content, store_.clock().Now()));
  record.mutable_line()->Add(publication.line.begin(), publication.line.end());
  if (record.line_size() > 0) {
    auto& last_step = *record.mutable_line(record.line_size() - 1);
    if (last_step.release().empty()) {
      last_step.set_release(record.release().name());
    }
  }
  record.set_root_release(head.root_release());
  return record;
}

absl::Status ReleasePublisher::Commit(HubTransaction& transaction,
                                      const Publication& publication,
                                      ReleaseRecord release) {
  const std::string name = release.release().name();
  if (release.release().digest() != publication.candidate.digest()) {
    return absl::DataLossError(
        absl::StrCat(name, " is not what was evaluated; nothing is published"));
  }
  CAIRN_ASSIGN_OR_RETURN(auto latest, transaction.Get<TagRecord>(absl::StrCat(
                                          publication.model, "/tags/latest")));
  if (latest.tag().release() != publication.head) {
    return absl::AbortedError(absl::StrCat(publication.model, "@latest is now ",
                                           latest.tag().release(), " and not ",
                                           publication.head));
  }
  CAIRN_ASSIGN_OR_RETURN(auto taken, transaction.Find<ReleaseRecord>(name));
  if (taken.has_value()) {
    return absl::AbortedError(absl::StrCat(name, " was published meanwhile"));
  }
  CAIRN_RETURN_IF_ERROR(transaction.Put(release));
  CAIRN_RETURN_IF_ERROR(PlanDeltas(transaction, release));
  latest.mutable_tag()->set_release(name);
  *latest.mutable_tag()->mutable_update_time() = ToTimestamp(transaction.now());
  CAIRN_RETURN_IF_ERROR(transaction.Put(latest));
  v1::Event event;
  event.set_kind("release.published");
  event.set_subject(name);
  event.set_actor("hub");
  event.set_message(absl::StrCat(
      ShortName(name),
      publication.origin == ReleaseRecord::MERGED
          ? absl::StrCat(" published with ", publication.added.size(),
                         " contribution(s)")
          : std::string(" published after a revert")));
  event.mutable_related()->Add(publication.added.begin(),
                               publication.added.end());
  if (!publication.batch.empty()) event.add_related(publication.batch);
  return transaction.AppendEvent(publication.model, std::move(event));
}

}  // namespace cairn
