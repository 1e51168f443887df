#ifndef CAIRN_CORE_UPDATE_CHECKPOINT_DELTA_H_
#define CAIRN_CORE_UPDATE_CHECKPOINT_DELTA_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"

namespace cairn {

struct CheckpointDeltaOptions {
  // Digest of the base release: "sha256:" + hex.
  std::string base_digest;
  // SPARSE or DENSE; unspecified: whichever is smaller.
  v1::Encoding::Kind encoding = v1::Encoding::ENCODING_UNSPECIFIED;
  // Sparse only: keeps this share of all elements, those that change most
  // (by |tau|, ties to the earlier); 1: all changes, so that expanding gives
  // the tuned checkpoint back bit for bit.
  double density = 1.0;
  // Tensors that are looked at and written at once; the bytes do not depend on
  // it.
  int threads = 1;
  // Called now and then with the bytes done and all bytes, by one thread at a
  // time.
  std::function<void(int64_t, int64_t)> progress = nullptr;
};

struct CheckpointDelta {
  v1::Encoding::Kind encoding = v1::Encoding::ENCODING_UNSPECIFIED;
  int64_t changed_elements = 0;
  int64_t changed_tensors = 0;
  int64_t size_bytes = 0;
};

// Writes the change from `base` to `tuned` to `path` (a file, see
// kUpdateFile), tile by tile: memory does not grow with the model. The tuned
// checkpoint has tensors of the base with the same shape and dtype; those it
// lacks are taken as unchanged (tied heads). INVALID_ARGUMENT with reason
// UNKNOWN_TENSOR, SHAPE_MISMATCH or DTYPE_MISMATCH otherwise;
// FAILED_PRECONDITION when nothing changed.
absl::StatusOr<CheckpointDelta> WriteCheckpointDelta(
    const Checkpoint& base, const Checkpoint& tuned, const std::string& path,
    const CheckpointDeltaOptions& options);

// Whether a tensor of a tuned checkpoint is the base's (null: it has none), as
// WriteCheckpointDelta() asks for.
absl::Status CheckTunedTensor(const CheckpointTensor& tuned,
                              const CheckpointTensor* base);

// Writes base + update (sparse or dense) into the existing directory
// `directory` as safetensors files of the base's names and layout, and copies
// the base's other files (config, tokenizer). The update fits the base.
absl::Status ExpandUpdate(const Checkpoint& base, const Update& update,
                          const std::string& directory);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CHECKPOINT_DELTA_H_
