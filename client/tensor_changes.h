#ifndef CAIRN_CLIENT_TENSOR_CHANGES_H_
#define CAIRN_CLIENT_TENSOR_CHANGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/release.pb.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// One tensor that two checkpoints do not share.
struct TensorChange {
  enum class Kind { kChanged, kAdded, kRemoved };
  Kind kind = Kind::kChanged;
  std::string name;
  int64_t size_bytes = 0;
};

// What lies between two checkpoints, by their manifests: tensors that differ
// in dtype, shape or bytes, sorted by name.
std::vector<TensorChange> CompareTensors(const v1::TensorManifest& before,
                                         const v1::TensorManifest& after);

// The tensors of a release with their digests.
absl::StatusOr<v1::TensorManifest> FetchTensorManifest(
    HubChannel& hub, const v1::Release& release);

}  // namespace cairn

#endif  // CAIRN_CLIENT_TENSOR_CHANGES_H_
