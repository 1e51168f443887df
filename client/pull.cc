#include "client/pull.h"

#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/v1/manifest.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "client/delta_pull.h"
#include "client/hash_source.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/file_policy.h"
#include "core/release/release_document.h"
#include "core/rpc/blob_download.h"
#include "core/tensor/byte_source.h"
#include "google/protobuf/util/message_differencer.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using google::protobuf::util::MessageDifferencer;

constexpr char kPartial[] = ".cairn-partial";
constexpr int64_t kDocumentBytesMax = 64 << 20;

v1::ReadRequest FileRequest(const v1::Release& release,
                            const std::string& path) {
  v1::ReadRequest request;
  request.mutable_release_file()->set_release(release.name());
  request.mutable_release_file()->set_path(path);
  return request;
}

// "models/M/releases/" of a release's name.
std::string ModelPrefix(const std::string& release) {
  return release.substr(0, release.rfind('/') + 1);
}

class PullRun {
 public:
  PullRun(HubChannel& hub, const v1::Release& release, std::string directory,
          const PullOptions& options)
      : hub_(hub),
        release_(release),
        directory_(std::move(directory)),
        partial_(absl::StrCat(directory_, "/", kPartial)),
        options_(options) {}

  absl::StatusOr<PullSummary> Run();

 private:
  std::string Target(const std::string& path) const {
    return absl::StrCat(directory_, "/", path);
  }
  std::string Staged(const std::string& path) const {
    return absl::StrCat(partial_, "/", path);
  }
  absl::Status CheckDirectory() const;
  // Finds the release to start from and the delta from it.
  absl::Status FindBase();
  absl::Status FetchFiles();
  absl::Status FetchFile(const v1::File& file,
                         const TransferProgress& progress);
  // Copies a file that the base has as it should be; false when it has not.
  absl::StatusOr<bool> CopyFromBase(const v1::File& file,
                                    const std::string& staged) const;
  // Whether a file of this digest is in its place already.
  static bool IsFile(const v1::File& file, const std::string& path);
  absl::Status MoveIntoPlace();
  absl::Status RemoveFormerFiles() const;

  HubChannel& hub_;
  const v1::Release& release_;
  const std::string directory_;
  const std::string partial_;
  const PullOptions& options_;
  std::string document_;
  std::vector<std::string> staged_;
  std::optional<HeldRelease> base_;
  std::unique_ptr<DeltaPull> delta_;
  PullSummary summary_;
};

absl::Status PullRun::CheckDirectory() const {
  std::error_code error;
  if (!fs::exists(directory_, error)) return absl::OkStatus();
  if (!fs::is_directory(directory_, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat(directory_, " is there and is no directory"));
  }
  if (fs::exists(partial_, error) ||
      fs::exists(Target(kReleaseDocumentFile), error) ||
      fs::is_empty(directory_, error)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(directory_,
                   " holds other files; pull into an empty directory or one "
                   "that was pulled before"));
}

bool PullRun::IsFile(const v1::File& file, const std::string& path) {
  auto source = OpenFileSource(path);
  if (!source.ok() || (*source)->size() != file.size_bytes()) return false;
  auto sha256 = HashSource(**source);
  return sha256.ok() && sha256->hex() == file.sha256();
}

absl::Status PullRun::FindBase() {
  base_ = ReadHeldRelease(options_.from.empty() ? directory_ : options_.from,
                          options_.root_fingerprint);
  if (!base_.has_value() || !options_.use_deltas ||
      ModelPrefix(base_->name) != ModelPrefix(release_.name()) ||
      base_->digest == release_.digest()) {
    return absl::OkStatus();
  }
  CAIRN_ASSIGN_OR_RETURN(delta_, DeltaPull::Fetch(hub_, release_, *base_,
                                                  {.scratch = partial_,
                                                   .threads = options_.threads,
                                                   .note = options_.note}));
  if (delta_ != nullptr) {
    summary_.from = base_->name;
    summary_.delta_bytes = delta_->delta_bytes();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> PullRun::CopyFromBase(const v1::File& file,
                                           const std::string& staged) const {
  if (!base_.has_value() || base_->directory == directory_) return false;
  const std::string path = absl::StrCat(base_->directory, "/", file.path());
  if (!IsFile(file, path)) return false;
  std::error_code error;
  fs::copy_file(path, staged, fs::copy_options::overwrite_existing, error);
  if (error) {
    return SystemError(error.value(), absl::StrCat("copy ", path));
  }
  return IsFile(file, staged);
}

absl::Status PullRun::FetchFile(const v1::File& file,
                                const TransferProgress& progress) {
  const std::string staged = Staged(file.path());
  CAIRN_RETURN_IF_ERROR(MakeDirectory(fs::path(staged).parent_path()));
  staged_.push_back(file.path());
  // An earlier pull may have come this far.
  bool made = IsFile(file, staged);
  if (!made) {
    CAIRN_ASSIGN_OR_RETURN(made, CopyFromBase(file, staged));
  }
  if (!made && delta_ != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(made, delta_->Rebuild(file, staged));
  }
  if (made) {
    progress(file.size_bytes());
    return absl::OkStatus();
  }
  summary_.fetched_bytes += file.size_bytes();
  return DownloadFile(hub_, FileRequest(release_, file.path()), file.sha256(),
                      file.size_bytes(), staged, progress);
}

absl::Status PullRun::FetchFiles() {
  int64_t total = 0;
  for (const v1::File& file : release_.files()) {
    CAIRN_RETURN_IF_ERROR(CheckRelativePath(file.path()));
    if (file.path() != kReleaseDocumentFile) total += file.size_bytes();
  }
  auto meter =
      options_.meter(absl::StrCat("pulling ", release_.version()), total);
  auto progress = [&](int64_t bytes) { meter->Add(bytes); };
  for (const v1::File& file : release_.files()) {
    if (file.path() == kReleaseDocumentFile) continue;
    if (IsFile(file, Target(file.path()))) {
      progress(file.size_bytes());
      continue;
    }
    CAIRN_RETURN_IF_ERROR(FetchFile(file, progress));
  }
  summary_.total_bytes = total;
  if (delta_ != nullptr) {
    summary_.fetched_bytes += delta_->delta_bytes() + delta_->fetched_bytes();
  }
  return absl::OkStatus();
}

absl::Status PullRun::RemoveFormerFiles() const {
  auto text = ReadFile(Target(kReleaseDocumentFile), kDocumentBytesMax);
  if (!text.ok()) return absl::OkStatus();
  unlink(Target(kReleaseDocumentFile).c_str());
  auto former = VerifyReleaseDocument(*text, "");
  if (!former.ok()) return absl::OkStatus();
  std::set<std::string> current;
  for (const v1::File& file : release_.files()) current.insert(file.path());
  for (const v1::File& file : former->files()) {
    if (!current.contains(file.path()) && CheckRelativePath(file.path()).ok()) {
      unlink(Target(file.path()).c_str());
    }
  }
  return absl::OkStatus();
}

absl::Status PullRun::MoveIntoPlace() {
  CAIRN_RETURN_IF_ERROR(RemoveFormerFiles());
  for (const std::string& path : staged_) {
    const std::string target = Target(path);
    CAIRN_RETURN_IF_ERROR(MakeDirectory(fs::path(target).parent_path()));
    if (rename(Staged(path).c_str(), target.c_str()) != 0) {
      return SystemError(errno, absl::StrCat("move ", target, " into place"));
    }
  }
  std::error_code error;
  fs::remove_all(partial_, error);
  if (error) {
    return SystemError(error.value(), absl::StrCat("remove ", partial_));
  }
  return WriteFile(Target(kReleaseDocumentFile), document_);
}

absl::StatusOr<PullSummary> PullRun::Run() {
  CAIRN_RETURN_IF_ERROR(CheckDirectory());
  CAIRN_ASSIGN_OR_RETURN(
      document_,
      FetchReleaseDocument(hub_, release_, options_.root_fingerprint));
  CAIRN_RETURN_IF_ERROR(MakeDirectory(partial_));
  CAIRN_RETURN_IF_ERROR(FindBase());
  CAIRN_RETURN_IF_ERROR(FetchFiles());
  CAIRN_RETURN_IF_ERROR(MoveIntoPlace());
  return summary_;
}

}  // namespace

absl::StatusOr<std::string> FetchReleaseDocument(
    HubChannel& hub, const v1::Release& release,
    absl::string_view root_fingerprint) {
  std::string sha256;
  for (const v1::File& file : release.files()) {
    if (file.path() == kReleaseDocumentFile) sha256 = file.sha256();
  }
  CAIRN_ASSIGN_OR_RETURN(
      std::string document,
      DownloadBytes(hub, FileRequest(release, kReleaseDocumentFile), sha256,
                    kDocumentBytesMax));
  CAIRN_ASSIGN_OR_RETURN(v1::ReleaseManifest manifest,
                         VerifyReleaseDocument(document, root_fingerprint));
  if (manifest.name() != release.name() ||
      manifest.digest() != release.digest()) {
    return absl::DataLossError(absl::StrCat(
        "the signed manifest is that of ", manifest.name(), " with digest ",
        manifest.digest(), ", not of ", release.name()));
  }
  // Releases from before attributions were signed have theirs beside it.
  MessageDifferencer attributions;
  // A document leaves out zeros, negative ones too.
  attributions.set_message_field_comparison(MessageDifferencer::EQUIVALENT);
  std::string differences;
  attributions.ReportDifferencesToString(&differences);
  if (manifest.has_attribution() &&
      !attributions.Compare(manifest.attribution(), release.attribution())) {
    return absl::DataLossError(absl::StrCat(
        "the hub attributes ", release.name(),
        " to its members otherwise than the signed manifest does: ",
        differences));
  }
  // What was signed must be what is about to be fetched.
  std::set<std::string> signed_files;
  for (const v1::File& file : manifest.files()) {
    signed_files.insert(absl::StrCat(file.path(), "\n", file.sha256()));
  }
  for (const v1::File& file : release.files()) {
    if (file.path() != kReleaseDocumentFile &&
        !signed_files.contains(
            absl::StrCat(file.path(), "\n", file.sha256()))) {
      return absl::DataLossError(
          absl::StrCat(file.path(), " is not what the signed manifest of ",
                       release.name(), " lists"));
    }
  }
  return document;
}

absl::StatusOr<PullSummary> PullRelease(HubChannel& hub,
                                        const v1::Release& release,
                                        const std::string& directory,
                                        const PullOptions& options) {
  return PullRun(hub, release, directory, options).Run();
}

}  // namespace cairn
