#include "client/tensor_changes.h"

#include <algorithm>

#include "cairn/v1/transfer.pb.h"
#include "core/base/status_macros.h"
#include "core/rpc/blob_download.h"
#include "core/tensor/tensor_manifest.h"

namespace cairn {
namespace {

bool IsSame(const v1::Tensor& a, const v1::Tensor& b) {
  return a.sha256() == b.sha256() && a.dtype() == b.dtype() &&
         std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(),
                    b.shape().end());
}

}  // namespace

std::vector<TensorChange> CompareTensors(const v1::TensorManifest& before,
                                         const v1::TensorManifest& after) {
  std::vector<TensorChange> changes;
  auto add = [&](TensorChange::Kind kind, const v1::Tensor& tensor) {
    changes.push_back({.kind = kind,
                       .name = tensor.name(),
                       .size_bytes = tensor.size_bytes()});
  };
  int i = 0;
  int j = 0;
  while (i < before.tensors_size() || j < after.tensors_size()) {
    const bool has_a = i < before.tensors_size();
    const bool has_b = j < after.tensors_size();
    if (!has_b ||
        (has_a && before.tensors(i).name() < after.tensors(j).name())) {
      add(TensorChange::Kind::kRemoved, before.tensors(i++));
    } else if (!has_a || after.tensors(j).name() < before.tensors(i).name()) {
      add(TensorChange::Kind::kAdded, after.tensors(j++));
    } else {
      if (!IsSame(before.tensors(i), after.tensors(j))) {
        add(TensorChange::Kind::kChanged, after.tensors(j));
      }
      ++i;
      ++j;
    }
  }
  return changes;
}

absl::StatusOr<v1::TensorManifest> FetchTensorManifest(
    HubChannel& hub, const v1::Release& release) {
  v1::ReadRequest request;
  request.mutable_release_tensor()->set_release(release.name());
  CAIRN_ASSIGN_OR_RETURN(
      std::string bytes,
      DownloadBytes(hub, request, release.tensor_manifest_sha256()));
  return ParseTensorManifest(bytes);
}

}  // namespace cairn
