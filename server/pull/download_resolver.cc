#include "server/pull/download_resolver.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cairn/store/v1/records.pb.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "server/auth/permission.h"
#include "server/flow/delta_records.h"
#include "server/flow/resource_names.h"
#include "storage/segment_source.h"

namespace cairn {
namespace {

using store::v1::ContributionRecord;
using store::v1::DeltaRecord;
using store::v1::FileSegments;
using store::v1::ReleaseRecord;

// 100,000 tensors with long names.
constexpr int64_t kManifestBytesMax = 64 << 20;

template <typename Files>
const typename Files::value_type* FindPath(const Files& files,
                                           absl::string_view path) {
  for (const auto& file : files) {
    if (file.path() == std::string(path)) return &file;
  }
  return nullptr;
}

absl::Status NoFile(absl::string_view owner, absl::string_view path) {
  return absl::NotFoundError(
      absl::StrCat(owner, " has no file \"", path, "\""));
}

}  // namespace

DownloadResolver::DownloadResolver(HubStore& store, const BlobStore& blobs,
                                   CheckLease check_lease)
    : store_(store), blobs_(blobs), check_lease_(std::move(check_lease)) {}

absl::StatusOr<Download> DownloadResolver::Resolve(
    const Caller& caller, const v1::ReadRequest& request) const {
  switch (request.source_case()) {
    case v1::ReadRequest::kReleaseFile:
      return ReleaseFile(caller, request.release_file());
    case v1::ReadRequest::kReleaseTensor:
      return ReleaseTensor(caller, request.release_tensor());
    case v1::ReadRequest::kContributionFile:
      return ContributionFile(caller, request.contribution_file());
    case v1::ReadRequest::kLeasedBlob:
      return LeasedBlob(caller, request.leased_blob());
    case v1::ReadRequest::kSuiteFile:
      return SuiteFile(caller, request.suite_file());
    case v1::ReadRequest::kReleaseDelta:
      return ReleaseDelta(caller, request.release_delta());
    case v1::ReadRequest::SOURCE_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "source is not set: name a release_file, release_tensor, "
      "contribution_file, leased_blob, suite_file or release_delta");
}

absl::StatusOr<Download> DownloadResolver::ReleaseFile(
    const Caller& caller, const v1::ReleaseFile& named) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, ReleaseName::Parse(named.release()));
  const HubSnapshot reader = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kPull, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<ReleaseRecord>(name.full()));
  const v1::File* file = FindPath(record.release().files(), named.path());
  const FileSegments* stored = FindPath(record.files(), named.path());
  if (file == nullptr || stored == nullptr) {
    return NoFile(name.full(), named.path());
  }
  std::vector<BlobSegment> segments;
  for (const auto& segment : stored->segments()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(segment.sha256()));
    segments.push_back({.digest = digest, .size_bytes = segment.size_bytes()});
  }
  Download download;
  download.source =
      MakeSegmentSource(blobs_, absl::StrCat(name.full(), ": ", named.path()),
                        std::move(segments));
  download.sha256 = file->sha256();
  return download;
}

absl::StatusOr<Download> DownloadResolver::ReleaseTensor(
    const Caller& caller, const v1::ReleaseTensor& named) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, ReleaseName::Parse(named.release()));
  const HubSnapshot reader = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kPull, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<ReleaseRecord>(name.full()));
  const std::string& manifest = record.release().tensor_manifest_sha256();
  if (named.tensor().empty()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(manifest));
    CAIRN_ASSIGN_OR_RETURN(BlobStat stat, blobs_.Stat(digest));
    return NamedBlob(name.full(), manifest, stat.size_bytes);
  }
  CAIRN_ASSIGN_OR_RETURN(auto tensors, Tensors(manifest));
  auto found = tensors->find(named.tensor());
  if (found == tensors->end()) {
    return absl::NotFoundError(
        absl::StrCat(name.full(), " has no tensor \"", named.tensor(), "\""));
  }
  return NamedBlob(absl::StrCat(name.full(), ": ", named.tensor()),
                   found->second.sha256(), found->second.size_bytes());
}

absl::StatusOr<Download> DownloadResolver::ContributionFile(
    const Caller& caller, const v1::ContributionFile& named) const {
  CAIRN_ASSIGN_OR_RETURN(auto name,
                         ContributionName::Parse(named.contribution()));
  const std::string model = name.model().full();
  const HubSnapshot reader = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kRead, model));
  CAIRN_ASSIGN_OR_RETURN(auto record,
                         reader.Get<ContributionRecord>(name.full()));
  const bool is_author =
      !caller.is_anonymous() && record.contribution().author() == caller.user;
  if (!is_author) {
    CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kReview, model));
  }
  const v1::File* file = FindPath(record.contribution().files(), named.path());
  if (file == nullptr) return NoFile(name.full(), named.path());
  if (record.bytes_dropped()) {
    return absl::FailedPreconditionError(
        absl::StrCat(name.full(), " was refused and its bytes are gone"));
  }
  return NamedBlob(absl::StrCat(name.full(), ": ", named.path()),
                   file->sha256(), file->size_bytes());
}

absl::StatusOr<Download> DownloadResolver::ReleaseDelta(
    const Caller& caller, const v1::ReleaseDelta& named) const {
  CAIRN_ASSIGN_OR_RETURN(auto to, ReleaseName::Parse(named.release()));
  CAIRN_ASSIGN_OR_RETURN(auto from, ReleaseName::Parse(named.from()));
  const HubSnapshot reader = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kPull, to.model().full()));
  const std::string name = DeltaName(to.full(), from.full());
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.Get<DeltaRecord>(name));
  const v1::Delta& delta = record.delta();
  if (delta.state() != v1::Delta::READY) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " is ", v1::Delta::State_Name(delta.state()),
                     " and cannot be read; pull the release whole"));
  }
  return NamedBlob(name, delta.sha256(), delta.size_bytes());
}

absl::StatusOr<Download> DownloadResolver::LeasedBlob(
    const Caller& caller, const v1::LeasedBlob& named) const {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(named.sha256()));
  CAIRN_RETURN_IF_ERROR(Authorize(caller, Permission::kWork, caller.model));
  CAIRN_RETURN_IF_ERROR(check_lease_(caller, named));
  CAIRN_ASSIGN_OR_RETURN(BlobStat stat, blobs_.Stat(digest));
  return NamedBlob(named.job(), digest.hex(), stat.size_bytes);
}

absl::StatusOr<Download> DownloadResolver::SuiteFile(
    const Caller& caller, const v1::SuiteFile& named) const {
  CAIRN_ASSIGN_OR_RETURN(auto name, SuiteName::Parse(named.suite()));
  const HubSnapshot reader = store_.Read();
  CAIRN_RETURN_IF_ERROR(
      AuthorizeRead(reader, caller, Permission::kRead, name.model().full()));
  CAIRN_ASSIGN_OR_RETURN(auto record, reader.GetSuite(name.full()));
  const v1::File* file = FindPath(record.suite().public_files(), named.path());
  if (file == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        name.full(), " has no public file \"", named.path(), "\""));
  }
  return NamedBlob(absl::StrCat(name.full(), ": ", named.path()),
                   file->sha256(), file->size_bytes());
}

absl::StatusOr<Download> DownloadResolver::NamedBlob(absl::string_view label,
                                                     absl::string_view sha256,
                                                     int64_t size_bytes) const {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(sha256));
  Download download;
  download.source =
      MakeSegmentSource(blobs_, std::string(label),
                        {{.digest = digest, .size_bytes = size_bytes}});
  download.sha256 = digest.hex();
  return download;
}

absl::StatusOr<std::shared_ptr<const DownloadResolver::TensorBlobs>>
DownloadResolver::Tensors(const std::string& manifest_sha256) const {
  {
    MutexLock lock(mutex_);
    if (tensors_ != nullptr && manifest_sha256_ == manifest_sha256) {
      return tensors_;
    }
  }
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(manifest_sha256));
  CAIRN_ASSIGN_OR_RETURN(auto source, blobs_.Open(digest));
  CAIRN_ASSIGN_OR_RETURN(std::string bytes,
                         ReadAll(*source, kManifestBytesMax));
  v1::TensorManifest manifest;
  if (!manifest.ParseFromString(bytes)) {
    return absl::DataLossError(
        absl::StrCat("tensor manifest ", manifest_sha256, " is damaged"));
  }
  auto tensors = std::make_shared<TensorBlobs>();
  for (v1::Tensor& tensor : *manifest.mutable_tensors()) {
    std::string name = tensor.name();
    tensors->emplace(std::move(name), std::move(tensor));
  }
  MutexLock lock(mutex_);
  manifest_sha256_ = manifest_sha256;
  tensors_ = tensors;
  return tensors_;
}

}  // namespace cairn
