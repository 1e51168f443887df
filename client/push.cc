#include "client/push.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/hub.grpc.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "client/base_finder.h"
#include "client/names.h"
#include "client/tensor_changes.h"
#include "client/update_source.h"
#include "client/update_upload.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_download.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/base_model.h"
#include "core/update/checkpoint_delta.h"
#include "core/update/manifest.h"
#include "core/update/update.h"

namespace cairn {
namespace {

// Threads for what keeps processors busy.
int Cores() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1,
                    8);
}

// A push on its way: each step leaves what the next one needs.
class PushRun {
 public:
  PushRun(HubChannel& hub, const Home& home, const PushOptions& options,
          const PushVoice& voice)
      : hub_(hub), home_(home), options_(options), voice_(voice) {}
  ~PushRun() {
    std::error_code ignored;
    if (!scratch_.empty()) std::filesystem::remove_all(scratch_, ignored);
  }

  absl::StatusOr<v1::Contribution> Run();

 private:
  absl::Status FindBaseRelease();
  // Turns a checkpoint into an update in a temporary folder.
  absl::Status MakeDelta();
  // The base's tensors: from a local copy, or from the hub but for those that
  // the tuned checkpoint holds unchanged.
  absl::StatusOr<Checkpoint> OpenBase(const Checkpoint& tuned);
  // Sends the update's files and describes them.
  absl::StatusOr<std::vector<v1::File>> Upload();
  absl::StatusOr<v1::ContributionManifest> Describe(
      std::vector<v1::File> files);
  absl::StatusOr<v1::Contribution> Create(
      const v1::ContributionManifest& manifest);

  HubChannel& hub_;
  const Home& home_;
  const PushOptions& options_;
  const PushVoice& voice_;
  UpdateSource source_;
  FoundBase base_;
  v1::TensorManifest base_tensors_;
  std::unique_ptr<Update> update_;
  std::string scratch_;
};

absl::Status PushRun::FindBaseRelease() {
  BaseHints hints{.reference = options_.base,
                  .digest = BaseDigestOf(source_.files),
                  .path = source_.base_path,
                  .revision = source_.base_revision};
  CAIRN_ASSIGN_OR_RETURN(base_, FindBase(hub_, options_.model, hints));
  if (base_.is_inferred) {
    voice_.warn(
        absl::StrCat("nothing says which release this was trained on; taking ",
                     base_.release.name(), " (--base tells otherwise)"));
  }
  return absl::OkStatus();
}

// A file of the base whose unchanged tensors are read from the tuned
// checkpoint and the rest through `remote`.
SharedSource OverlayFile(const SharedSource& remote,
                         const std::map<int64_t, const v1::Tensor*>& tensors,
                         const Checkpoint& tuned,
                         const std::map<std::string, std::string>& digests) {
  std::vector<SharedSource> parts;
  int64_t at = 0;
  for (const auto& [offset, tensor] : tensors) {
    auto same = digests.find(tensor->name());
    if (same == digests.end() || same->second != tensor->sha256()) continue;
    auto local = tuned.OpenTensor(tensor->name());
    if (!local.ok() || (*local)->size() != tensor->size_bytes()) continue;
    if (offset > at) parts.push_back(MakeSliceSource(remote, at, offset - at));
    parts.push_back(*std::move(local));
    at = offset + tensor->size_bytes();
  }
  if (at < remote->size()) {
    parts.push_back(MakeSliceSource(remote, at, remote->size() - at));
  }
  return MakeConcatSource(std::move(parts));
}

absl::StatusOr<Checkpoint> PushRun::OpenBase(const Checkpoint& tuned) {
  if (base_.directory.has_value()) {
    return Checkpoint::OpenDirectory(*base_.directory);
  }
  CAIRN_ASSIGN_OR_RETURN(v1::TensorManifest own,
                         MakeTensorManifest(tuned, Cores()));
  std::map<std::string, std::string> digests;
  for (const v1::Tensor& tensor : own.tensors()) {
    digests[tensor.name()] = tensor.sha256();
  }
  std::map<std::string, std::map<int64_t, const v1::Tensor*>> by_file;
  for (const v1::Tensor& tensor : base_tensors_.tensors()) {
    by_file[tensor.file()][tensor.file_offset()] = &tensor;
  }
  FileMap files;
  for (const v1::File& file : base_.release.files()) {
    v1::ReadRequest request;
    request.mutable_release_file()->set_release(base_.release.name());
    request.mutable_release_file()->set_path(file.path());
    SharedSource remote = MakeRemoteSource(hub_, request, file.size_bytes());
    auto tensors = by_file.find(file.path());
    files[file.path()] =
        tensors == by_file.end()
            ? remote
            : OverlayFile(remote, tensors->second, tuned, digests);
  }
  return Checkpoint::Open(std::move(files));
}

absl::Status PushRun::MakeDelta() {
  CAIRN_ASSIGN_OR_RETURN(Checkpoint tuned, Checkpoint::Open(source_.files));
  CAIRN_ASSIGN_OR_RETURN(Checkpoint base, OpenBase(tuned));
  CAIRN_ASSIGN_OR_RETURN(std::string folder, home_.Folder("tmp"));
  std::string pattern = absl::StrCat(folder, "/push-XXXXXX");
  if (mkdtemp(pattern.data()) == nullptr) {
    return SystemError(errno, absl::StrCat("make a folder in ", folder));
  }
  scratch_ = pattern;
  auto meter = voice_.meter("comparing", tuned.tensor_bytes());
  CheckpointDeltaOptions delta_options;
  delta_options.base_digest = base_.release.digest();
  delta_options.threads = Cores();
  delta_options.progress = [&](int64_t done, int64_t) { meter->Set(done); };
  auto delta = WriteCheckpointDelta(
      base, tuned, absl::StrCat(scratch_, "/", kUpdateFile), delta_options);
  CAIRN_RETURN_IF_ERROR(delta.status());
  meter.reset();
  voice_.note(absl::StrCat(delta->changed_elements, " values in ",
                           delta->changed_tensors, " tensors differ from ",
                           base_.release.version(), "; sent as ",
                           v1::Encoding::Kind_Name(delta->encoding), ", ",
                           FormatBytes(delta->size_bytes)));
  CAIRN_ASSIGN_OR_RETURN(source_.files, OpenDirectorySources(scratch_));
  CAIRN_ASSIGN_OR_RETURN(update_, OpenUpdate(source_.files));
  return absl::OkStatus();
}

absl::StatusOr<v1::ContributionManifest> PushRun::Describe(
    std::vector<v1::File> files) {
  CAIRN_ASSIGN_OR_RETURN(v1::Hub told, hub_.Call(&v1::HubService::Stub::GetHub,
                                                 v1::GetHubRequest()));
  v1::ContributionManifest manifest;
  manifest.set_hub_id(told.hub_id());
  manifest.set_model(options_.model);
  manifest.set_base_release(base_.release.name());
  manifest.set_base_digest(base_.release.digest());
  manifest.set_base_inferred(base_.is_inferred);
  manifest.set_encoding(update_->encoding());
  for (v1::File& file : files) *manifest.add_files() = std::move(file);
  for (const std::string& claim : options_.claims) {
    manifest.add_claims(ShortName(claim));
  }
  manifest.set_license(options_.license);
  manifest.set_title(options_.title);
  if (options_.recipe.ByteSizeLong() > 0) {
    *manifest.mutable_recipe() = options_.recipe;
  }
  return manifest;
}

absl::StatusOr<std::vector<v1::File>> PushRun::Upload() {
  int64_t total = 0;
  for (const auto& [path, source] : source_.files) {
    if (IsUpdateFile(path)) total += source->size();
  }
  // A delta is the same for the same checkpoint and base.
  CAIRN_ASSIGN_OR_RETURN(std::string stamp, StampFiles(source_.directory));
  stamp = absl::StrCat(stamp, " ", base_.release.digest(), " ",
                       v1::Encoding::Kind_Name(update_->encoding()));
  auto meter = voice_.meter("sending", total);
  return UploadUpdateFiles(hub_, home_, source_.files, stamp,
                           [&](int64_t bytes) { meter->Add(bytes); });
}

absl::StatusOr<v1::Contribution> PushRun::Create(
    const v1::ContributionManifest& manifest) {
  v1::CreateContributionRequest request;
  request.set_parent(options_.model);
  CAIRN_ASSIGN_OR_RETURN(auto key, home_.ReadKey());
  if (key.has_value()) {
    SignedManifest sealed = SignManifest(manifest, *key);
    request.set_manifest(std::move(sealed.bytes));
    request.set_signature(std::move(sealed.signature));
  } else {
    v1::ContributionManifest unsigned_manifest = manifest;
    unsigned_manifest.set_update_digest(UpdateDigest(std::vector<v1::File>(
        manifest.files().begin(), manifest.files().end())));
    request.set_manifest(unsigned_manifest.SerializeAsString());
  }
  request.set_request_id(ToHex(RandomBytes(16)));
  request.set_validate_only(options_.validate_only);
  return hub_.Call(&v1::ContributionService::Stub::CreateContribution, request,
                   {.deadline = absl::Minutes(5)});
}

absl::StatusOr<v1::Contribution> PushRun::Run() {
  CAIRN_ASSIGN_OR_RETURN(source_, OpenUpdateSource(options_.path));
  if (!source_.left_out.empty()) {
    voice_.note(
        absl::StrCat("left out: ", absl::StrJoin(source_.left_out, ", ")));
  }
  const bool is_checkpoint = source_.kind == UpdateSource::Kind::kCheckpoint;
  if (!is_checkpoint) {
    // What is wrong by itself is said before the hub is asked for a base.
    const absl::Status alone = OpenUpdate(source_.files).status();
    if (!alone.ok() && !absl::IsFailedPrecondition(alone)) return alone;
  }
  CAIRN_RETURN_IF_ERROR(FindBaseRelease());
  CAIRN_ASSIGN_OR_RETURN(base_tensors_,
                         FetchTensorManifest(hub_, base_.release));
  if (is_checkpoint) {
    CAIRN_RETURN_IF_ERROR(MakeDelta());
  } else {
    // The hub asks the base's configuration, too, and refuses what is left.
    const BaseModel base = {.tensors = &base_tensors_};
    CAIRN_ASSIGN_OR_RETURN(update_, OpenUpdate(source_.files, &base));
  }
  CAIRN_RETURN_IF_ERROR(
      CheckAgainstBase(*update_, base_tensors_, base_.release.digest()));
  CAIRN_ASSIGN_OR_RETURN(std::vector<v1::File> files, Upload());
  CAIRN_ASSIGN_OR_RETURN(v1::ContributionManifest manifest,
                         Describe(std::move(files)));
  return Create(manifest);
}

}  // namespace

absl::StatusOr<v1::Contribution> Push(HubChannel& hub, const Home& home,
                                      const PushOptions& options,
                                      const PushVoice& voice) {
  return PushRun(hub, home, options, voice).Run();
}

}  // namespace cairn
