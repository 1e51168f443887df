#ifndef CAIRN_SERVER_RELEASE_CHECKPOINT_IMPORT_H_
#define CAIRN_SERVER_RELEASE_CHECKPOINT_IMPORT_H_

#include <vector>

#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "cairn/v1/model.pb.h"
#include "core/tensor/byte_source.h"
#include "google/protobuf/repeated_field.h"
#include "storage/blob_store.h"

namespace cairn {

inline constexpr int kModelFilesMax = 10'000;

// A checkpoint as it will be published.
struct CheckpointFiles {
  std::vector<v1::File> files;  // sorted by path, with both digests
  std::vector<store::v1::FileSegments> segments;  // in the same order
  v1::TensorManifest tensors;
};

// Checks an uploaded checkpoint whole: allowed files and paths, config.json,
// safetensors headers by every rule of the format, each safetensors file in
// segments of its header and one blob a tensor, every declared size and
// SHA-256 against the stored bytes. Reads all bytes once, in bounded memory.
// INVALID_ARGUMENT with a reason (MALFORMED_FILE, FORBIDDEN_FILE,
// LIMIT_EXCEEDED) naming the file; FAILED_PRECONDITION when a blob was not
// uploaded.
absl::StatusOr<CheckpointFiles> ImportCheckpoint(
    BlobStore& blobs,
    const google::protobuf::RepeatedPtrField<v1::ModelFile>& files);

// The same for files that are not stored yet: stores them as it reads them.
// The files are those that CheckReleaseFile() takes.
absl::StatusOr<CheckpointFiles> ImportSources(BlobStore& blobs,
                                              const FileMap& files);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_CHECKPOINT_IMPORT_H_
