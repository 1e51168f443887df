#include "merge/eval/apply_update.h"

#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
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

absl::StatusOr<at::Tensor> AffectedTensor(const TensorEffect& effect,
                                          const Checkpoint& base,
                                          const std::string& name) {
  const CheckpointTensor* entry = base.Find(name);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("the base has no tensor ", name));
  }
  return CatchTorch("patching a tensor", [&]() -> absl::StatusOr<at::Tensor> {
    at::Tensor tensor = at::empty(entry->shape, at::kFloat);
    const absl::Span<float> values(tensor.data_ptr<float>(),
                                   static_cast<size_t>(tensor.numel()));
    CAIRN_RETURN_IF_ERROR(base.ReadFloats(name, 0, values));
    CAIRN_RETURN_IF_ERROR(effect.Apply(0, values));
    return tensor;
  });
}

}  // namespace

absl::Status ApplyEffects(const ModelEffects& effects, const Checkpoint& base,
                          int threads, ParameterPatch& patch) {
  if (!effects.added.empty()) {
    const std::string& name = effects.added.front().name;
    return ReasonedError(
        absl::StatusCode::kUnimplemented, "UNSUPPORTED",
        absl::StrCat("the adapter brings tensor ", name,
                     ", which the base has not in that shape: merge the two "
                     "and evaluate the result"),
        {{"tensor", name}});
  }
  const std::vector<std::pair<std::string, std::shared_ptr<const TensorEffect>>>
      touched(effects.effects.begin(), effects.effects.end());
  std::vector<at::Tensor> tuned(touched.size());
  CAIRN_RETURN_IF_ERROR(ParallelFor(
      threads, static_cast<int64_t>(touched.size()),
      [&](int64_t i) -> absl::Status {
        const auto& [name, effect] = touched[static_cast<size_t>(i)];
        CAIRN_ASSIGN_OR_RETURN(tuned[static_cast<size_t>(i)],
                               AffectedTensor(*effect, base, name));
        return absl::OkStatus();
      }));
  for (size_t i = 0; i < touched.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(patch.Set(touched[i].first, tuned[i]));
  }
  return absl::OkStatus();
}

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
