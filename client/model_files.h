#ifndef CAIRN_CLIENT_MODEL_FILES_H_
#define CAIRN_CLIENT_MODEL_FILES_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/v1/model.pb.h"
#include "core/rpc/blob_upload.h"

namespace cairn {

// A checkpoint directory, hashed and cut into the blobs that the hub keeps: a
// safetensors file is its header and one blob a tensor, any other file one
// blob.
struct ModelFiles {
  // Sorted by path, with their segments.
  std::vector<v1::ModelFile> files;
  std::vector<OutgoingBlob> blobs;
  int64_t size_bytes = 0;
  // Files that a release may not carry, and hidden ones: not taken.
  std::vector<std::string> left_out;
};

// Reads every byte once. NOT_FOUND without the directory; INVALID_ARGUMENT
// with reason MALFORMED_FILE or LIMIT_EXCEEDED for a broken safetensors file.
absl::StatusOr<ModelFiles> ReadModelFiles(const std::string& directory,
                                          const TransferProgress& progress);

// Bytes of the files that ReadModelFiles() would take.
absl::StatusOr<int64_t> ModelBytes(const std::string& directory);

}  // namespace cairn

#endif  // CAIRN_CLIENT_MODEL_FILES_H_
