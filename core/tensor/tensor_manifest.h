#ifndef CAIRN_CORE_TENSOR_TENSOR_MANIFEST_H_
#define CAIRN_CORE_TENSOR_TENSOR_MANIFEST_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// The manifest of a checkpoint: every tensor with its SHA-256, sorted by
// name. Reads all bytes once, on `threads` threads.
absl::StatusOr<v1::TensorManifest> MakeTensorManifest(
    const Checkpoint& checkpoint, int threads = 1);

// The bytes that are stored and hashed: the same for equal manifests.
std::string SerializeTensorManifest(const v1::TensorManifest& manifest);

// Parses and checks a stored manifest: sorted unique names, known dtypes,
// sizes that fit shapes, digests of 64 hex digits. INVALID_ARGUMENT with
// reason MALFORMED_FILE naming the tensor otherwise.
absl::StatusOr<v1::TensorManifest> ParseTensorManifest(absl::string_view bytes);

// The tensor of that name in a sorted manifest, or null.
const v1::Tensor* FindTensor(const v1::TensorManifest& manifest,
                             absl::string_view name);

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_TENSOR_MANIFEST_H_
