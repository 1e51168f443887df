#include "server/release/release_builder.h"

#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"
#include "core/tensor/tensor_manifest.h"
#include "server/flow/contribution_state.h"
#include "server/release/file_assembly.h"

namespace cairn {
namespace {

using store::v1::FileSegments;
using store::v1::ReleaseRecord;

v1::ReleaseManifest DescribeRelease(const ReleaseContent& content,
                                    const std::string& hub_id,
                                    const std::string& tensors_sha256,
                                    absl::Time now) {
  v1::ReleaseManifest out;
  out.set_hub_id(hub_id);
  out.set_version(content.version.text());
  out.set_name(ReleaseName::Parent(content.model) + out.version());
  out.set_parent(content.parent);
  out.set_parent_digest(content.parent_digest);
  out.set_digest(
      ReleaseDigest(content.checkpoint.tensors, content.checkpoint.files));
  out.mutable_files()->Add(content.checkpoint.files.begin(),
                           content.checkpoint.files.end());
  out.set_tensor_manifest_sha256(tensors_sha256);
  out.mutable_contributions()->Add(content.added.begin(), content.added.end());
  if (content.merge_record.has_value()) {
    *out.mutable_merge_record() = *content.merge_record;
  }
  out.mutable_reports()->Add(content.reports.begin(), content.reports.end());
  out.set_license(content.license);
  if (content.attribution.has_value()) {
    *out.mutable_attribution() = *content.attribution;
  }
  *out.mutable_create_time() = ToTimestamp(now);
  return out;
}

v1::Release PublicFace(const v1::ReleaseManifest& manifest,
                       const SealedManifest& sealed,
                       const std::vector<std::string>& contributions) {
  v1::Release out;
  out.set_name(manifest.name());
  out.set_version(manifest.version());
  out.set_parent(manifest.parent());
  out.set_digest(manifest.digest());
  out.set_commit(sealed.commit);
  *out.mutable_files() = manifest.files();
  out.set_manifest_digest(sealed.manifest_digest);
  out.mutable_contributions()->Add(contributions.begin(), contributions.end());
  if (manifest.has_merge_record()) {
    *out.mutable_merge_record() = manifest.merge_record();
  }
  *out.mutable_reports() = manifest.reports();
  *out.mutable_create_time() = manifest.create_time();
  *out.add_signatures() = sealed.signature;
  out.set_license(manifest.license());
  if (manifest.has_attribution()) {
    *out.mutable_attribution() = manifest.attribution();
  }
  out.set_tensor_manifest_sha256(manifest.tensor_manifest_sha256());
  return out;
}

// cairn-release.json, as a file of the release and as its one blob.
absl::Status AddDocument(BlobStore& blobs, const std::string& document,
                         ReleaseRecord& record) {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, blobs.Put(document));
  auto source = MakeMemorySource(document);
  CAIRN_ASSIGN_OR_RETURN(*record.mutable_release()->add_files(),
                         DescribeFile(kReleaseDocumentFile, *source));
  FileSegments& file = *record.add_files();
  file.set_path(kReleaseDocumentFile);
  file.add_segments()->set_sha256(digest.hex());
  file.mutable_segments(0)->set_size_bytes(source->size());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ReleaseRecord> BuildRelease(BlobStore& blobs,
                                           const ReleaseSigner& signer,
                                           const ReleaseContent& content,
                                           absl::Time now) {
  CAIRN_ASSIGN_OR_RETURN(
      Digest tensors,
      blobs.Put(SerializeTensorManifest(content.checkpoint.tensors)));
  v1::ReleaseManifest manifest =
      DescribeRelease(content, signer.hub_id(), tensors.hex(), now);
  CAIRN_ASSIGN_OR_RETURN(SealedManifest sealed, signer.Seal(manifest));
  ReleaseRecord record;
  *record.mutable_release() =
      PublicFace(manifest, sealed, content.contributions);
  record.mutable_files()->Add(content.checkpoint.segments.begin(),
                              content.checkpoint.segments.end());
  CAIRN_RETURN_IF_ERROR(AddDocument(blobs, sealed.document, record));
  CAIRN_RETURN_IF_ERROR(Failpoint("release.sealed"));
  record.set_manifest(sealed.manifest);
  record.set_origin(content.origin);
  int64_t tensor_bytes = 0;
  for (const v1::Tensor& tensor : content.checkpoint.tensors.tensors()) {
    tensor_bytes += tensor.size_bytes();
  }
  record.set_tensor_bytes(tensor_bytes);
  // The digest of a release without tensors: config and tokenizer alone.
  record.set_architecture_digest(
      ReleaseDigest(v1::TensorManifest(), content.checkpoint.files));
  return record;
}

}  // namespace cairn
