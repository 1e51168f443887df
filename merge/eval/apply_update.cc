#include "merge/eval/apply_update.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "merge/delta/update_delta.h"
#include "merge/tensor/compute.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

absl::StatusOr<at::Tensor> TunedTensor(const Update& update,
                                       const Checkpoint& base,
                                       const TouchedTensor& touched) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<float> values,
                         ReadTunedTensor(update, base, touched.name));
  return CatchTorch("patching a tensor", [&]() -> absl::StatusOr<at::Tensor> {
    return at::from_blob(values.data(), touched.shape, at::kFloat).clone();
  });
}

}  // namespace

absl::Status ApplyUpdate(const Update& update, const Checkpoint& base,
                         int threads, ParameterPatch& patch) {
  const std::vector<TouchedTensor>& touched = update.touched();
  std::vector<at::Tensor> tuned(touched.size());
  CAIRN_RETURN_IF_ERROR(
      ParallelFor(threads, static_cast<int64_t>(touched.size()),
                  [&](int64_t i) -> absl::Status {
                    const size_t at = static_cast<size_t>(i);
                    CAIRN_ASSIGN_OR_RETURN(
                        tuned[at], TunedTensor(update, base, touched[at]));
                    return absl::OkStatus();
                  }));
  for (size_t i = 0; i < touched.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(patch.Set(touched[i].name, tuned[i]));
  }
  return absl::OkStatus();
}

}  // namespace cairn
