#include "client/delta_pull.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "cairn/v1/release.grpc.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "client/hash_source.h"
#include "core/base/file.h"
#include "core/base/status_macros.h"
#include "core/release/file_policy.h"
#include "core/release/release_document.h"
#include "core/rpc/blob_download.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

constexpr int64_t kDocumentBytesMax = 64 << 20;
// A delta that is being made is waited for about as long as an idle worker
// that has the releases at hand takes, which on all but slow lines is no longer
// than fetching them would; whoever pulls next finds it made.
constexpr int64_t kBytesASecond = 200 << 20;
constexpr absl::Duration kShortestWait = absl::Seconds(2);
constexpr absl::Duration kLongestWait = absl::Minutes(2);
constexpr absl::Duration kPoll = absl::Milliseconds(250);

// A READY delta between the releases, or none. CANCELLED when a stop was
// requested.
absl::StatusOr<std::optional<v1::Delta>> FindDelta(
    HubChannel& hub, const v1::Release& release, const HeldRelease& held,
    const DeltaPullOptions& options) {
  for (const v1::Delta& delta : release.deltas()) {
    if (delta.from() == held.name) return std::optional<v1::Delta>(delta);
  }
  int64_t full_bytes = 0;
  for (const v1::File& file : release.files()) full_bytes += file.size_bytes();
  const absl::Duration patience = std::clamp(
      absl::Seconds(full_bytes / kBytesASecond), kShortestWait, kLongestWait);
  const absl::Time deadline = absl::Now() + patience;
  bool is_told = false;
  v1::RequestDeltaRequest request;
  request.set_name(release.name());
  request.set_from(held.name);
  while (true) {
    auto delta = hub.Call(&v1::ReleaseService::Stub::RequestDelta, request,
                          {.patience = absl::ZeroDuration()});
    if (absl::IsCancelled(delta.status())) return delta.status();
    // A hub that makes none now, or an older one that knows of none.
    if (!delta.ok()) return std::optional<v1::Delta>();
    if (delta->state() == v1::Delta::READY) {
      return std::optional<v1::Delta>(*std::move(delta));
    }
    // Nobody is there to make it, or nobody will.
    if (delta->state() != v1::Delta::PENDING || !delta->note().empty() ||
        absl::Now() > deadline) {
      return std::optional<v1::Delta>();
    }
    if (!is_told && options.note) {
      options.note(absl::StrCat("waiting up to ",
                                absl::FormatDuration(patience),
                                " for the difference from ", held.name));
    }
    is_told = true;
    CAIRN_RETURN_IF_ERROR(hub.Sleep(kPoll));
  }
}

absl::StatusOr<std::string> HashFile(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(auto source, OpenFileSource(path));
  CAIRN_ASSIGN_OR_RETURN(Digest digest, HashSource(*source));
  return digest.hex();
}

}  // namespace

std::optional<HeldRelease> ReadHeldRelease(
    const std::string& directory, const std::string& root_fingerprint) {
  auto text = ReadFile(absl::StrCat(directory, "/", kReleaseDocumentFile),
                       kDocumentBytesMax);
  if (!text.ok()) return std::nullopt;
  auto manifest = VerifyReleaseDocument(*text, root_fingerprint);
  if (!manifest.ok()) return std::nullopt;
  return HeldRelease{.directory = directory,
                     .name = manifest->name(),
                     .digest = manifest->digest()};
}

absl::StatusOr<std::unique_ptr<DeltaPull>> DeltaPull::Fetch(
    HubChannel& hub, const v1::Release& release, const HeldRelease& held,
    const DeltaPullOptions& options) {
  auto from = Checkpoint::OpenDirectory(held.directory);
  if (!from.ok()) return nullptr;
  CAIRN_ASSIGN_OR_RETURN(auto found, FindDelta(hub, release, held, options));
  if (!found.has_value()) return nullptr;
  v1::ReadRequest request;
  request.mutable_release_delta()->set_release(release.name());
  request.mutable_release_delta()->set_from(held.name);
  const std::string path = absl::StrCat(options.scratch, "/delta");
  absl::Status fetched =
      DownloadFile(hub, request, found->sha256(), found->size_bytes(), path);
  if (absl::IsDataLoss(fetched) || absl::IsFailedPrecondition(fetched) ||
      absl::IsNotFound(fetched)) {
    return nullptr;
  }
  CAIRN_RETURN_IF_ERROR(fetched);
  CAIRN_ASSIGN_OR_RETURN(SharedSource source, OpenFileSource(path));
  auto delta = DeltaPack::Open(std::move(source));
  if (!delta.ok() || delta->from_digest() != held.digest ||
      delta->to_digest() != release.digest()) {
    return nullptr;
  }
  return std::unique_ptr<DeltaPull>(
      new DeltaPull(hub, release, options.threads, *std::move(delta),
                    *std::move(from), found->size_bytes()));
}

DeltaPull::DeltaPull(HubChannel& hub, const v1::Release& release, int threads,
                     DeltaPack delta, Checkpoint from, int64_t delta_bytes)
    : hub_(hub),
      release_(release),
      threads_(threads),
      delta_(std::move(delta)),
      from_(std::move(from)),
      delta_bytes_(delta_bytes) {}

absl::StatusOr<bool> DeltaPull::Rebuild(const v1::File& file,
                                        const std::string& path) {
  if (delta_.FindHeader(file.path()) == nullptr ||
      delta_.FileSize(file.path()) != file.size_bytes()) {
    return false;
  }
  const std::string part = path + ".part";
  CAIRN_ASSIGN_OR_RETURN(
      RebuiltFile rebuilt,
      RebuildFile(delta_, file.path(), from_, part, threads_, nullptr));
  const int fd = open(part.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return SystemError(errno, "open " + part);
  absl::Cleanup close_it = [fd] { close(fd); };
  for (const TensorEntry& tensor : rebuilt.missing) {
    CAIRN_RETURN_IF_ERROR(FetchTensor(file.path(), tensor, fd));
  }
  CAIRN_ASSIGN_OR_RETURN(std::string sha256, HashFile(part));
  if (sha256 != file.sha256()) {
    CAIRN_RETURN_IF_ERROR(Repair(file.path(), part, fd));
    CAIRN_ASSIGN_OR_RETURN(sha256, HashFile(part));
  }
  if (sha256 != file.sha256()) {
    unlink(part.c_str());
    return false;
  }
  if (fsync(fd) != 0) return SystemError(errno, "sync " + part);
  if (rename(part.c_str(), path.c_str()) != 0) {
    return SystemError(errno, "rename " + part);
  }
  return true;
}

absl::Status DeltaPull::FetchTensor(const std::string& file,
                                    const TensorEntry& tensor, int fd) {
  if (tensor.begin == tensor.end) return absl::OkStatus();
  v1::ReadRequest request;
  request.mutable_release_file()->set_release(release_.name());
  request.mutable_release_file()->set_path(file);
  request.set_offset(tensor.begin);
  request.set_limit(tensor.end - tensor.begin);
  int64_t at = tensor.begin;
  CAIRN_RETURN_IF_ERROR(
      Download(hub_, request, [&](absl::string_view bytes) -> absl::Status {
        const int64_t begin = at;
        at += static_cast<int64_t>(bytes.size());
        return WriteAt(fd, begin, bytes, file);
      }));
  fetched_bytes_ += tensor.end - tensor.begin;
  return absl::OkStatus();
}

absl::Status DeltaPull::Repair(const std::string& file, const std::string& path,
                               int fd) {
  v1::ReadRequest request;
  request.mutable_release_tensor()->set_release(release_.name());
  CAIRN_ASSIGN_OR_RETURN(
      std::string bytes,
      DownloadBytes(hub_, request, release_.tensor_manifest_sha256()));
  auto manifest = ParseTensorManifest(bytes);
  // The file is then fetched whole.
  if (!manifest.ok()) return absl::OkStatus();
  CAIRN_ASSIGN_OR_RETURN(SharedSource source, OpenFileSource(path));
  for (const TensorEntry& tensor : delta_.FindHeader(file)->tensors()) {
    const v1::Tensor* wanted = FindTensor(*manifest, tensor.name);
    CAIRN_ASSIGN_OR_RETURN(
        Digest have, HashSource(*MakeSliceSource(source, tensor.begin,
                                                 tensor.end - tensor.begin)));
    if (wanted == nullptr || wanted->sha256() == have.hex()) continue;
    CAIRN_RETURN_IF_ERROR(FetchTensor(file, tensor, fd));
  }
  return absl::OkStatus();
}

}  // namespace cairn
