#ifndef CAIRN_SERVER_RELEASE_RELEASE_BUILDER_H_
#define CAIRN_SERVER_RELEASE_RELEASE_BUILDER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/store/v1/records.pb.h"
#include "server/flow/resource_names.h"
#include "server/release/checkpoint_import.h"
#include "server/release/release_signer.h"
#include "server/release/release_version.h"
#include "storage/blob_store.h"

namespace cairn {

// Everything a release says of itself.
struct ReleaseContent {
  ModelName model;
  ReleaseVersion version;
  store::v1::ReleaseRecord::Origin origin;
  std::string parent;         // full name; empty for the first
  std::string parent_digest;  // "sha256:" + hex
  CheckpointFiles checkpoint;
  std::vector<std::string> contributions;  // of the whole line
  std::vector<std::string> added;          // beyond the parent
  std::optional<v1::MergeRecord> merge_record;
  std::vector<v1::Report> reports;
  std::string license;
  std::optional<v1::Attribution> attribution;  // where it was measured
};

// Computes the digest, signs the manifest and stores the TensorManifest and
// cairn-release.json as blobs. The record is complete but for its line and is
// not written. Harmless to repeat.
absl::StatusOr<store::v1::ReleaseRecord> BuildRelease(
    BlobStore& blobs, const ReleaseSigner& signer,
    const ReleaseContent& content, absl::Time now);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_BUILDER_H_
