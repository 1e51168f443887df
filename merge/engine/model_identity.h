#ifndef CAIRN_MERGE_ENGINE_MODEL_IDENTITY_H_
#define CAIRN_MERGE_ENGINE_MODEL_IDENTITY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// What a checkpoint is, computed from its bytes.
struct ModelIdentity {
  v1::TensorManifest tensors;
  // Config and tokenizer files with path, size and SHA-256, sorted by path.
  std::vector<v1::File> files;
  // The release digest of the two: "sha256:" + hex.
  std::string digest;
};

// Hashes a checkpoint on `threads` threads.
absl::StatusOr<ModelIdentity> IdentifyModel(const Checkpoint& checkpoint,
                                            int threads);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MODEL_IDENTITY_H_
