#include "merge/worker/model_patches.h"

#include <ATen/Functions.h>

#include <algorithm>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/float_kernels.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/delta/update_delta.h"
#include "merge/tensor/compute.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

// Elements of a delta that are in memory at a time.
constexpr int64_t kTileElements = 1 << 18;

absl::StatusOr<at::Tensor> UpdatedTensor(const JobUpdate& update,
                                         const Checkpoint& weights,
                                         const std::string& name,
                                         at::ScalarType type) {
  const CheckpointTensor* entry = weights.Find(name);
  const TouchedTensor* touched = update.update->Find(name);
  if (entry == nullptr || entry->shape != touched->shape) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "STALE_BASE",
        absl::StrCat("the update changes tensor ", name, " ",
                     ShapeText(touched->shape),
                     ", which the weights it is evaluated on have not in that "
                     "shape: train it again on the latest release"),
        {{"tensor", name}});
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<TensorDelta> delta,
                         OpenTensorDelta(*update.update, *update.base, name));
  CAIRN_ASSIGN_OR_RETURN(
      at::Tensor tensor,
      CatchTorch("allocate", [&]() -> absl::StatusOr<at::Tensor> {
        return at::empty(entry->shape, at::kFloat);
      }));
  absl::Span<float> values(tensor.data_ptr<float>(),
                           static_cast<size_t>(entry->elements()));
  CAIRN_RETURN_IF_ERROR(weights.ReadFloats(name, 0, values));
  std::vector<float> tau;
  for (int64_t first = 0; first < entry->elements(); first += kTileElements) {
    const int64_t count = std::min(kTileElements, entry->elements() - first);
    tau.resize(static_cast<size_t>(count));
    CAIRN_RETURN_IF_ERROR(delta->Read(first, absl::MakeSpan(tau)));
    AddScaled(1.0f, tau,
              values.subspan(static_cast<size_t>(first), tau.size()));
  }
  return CatchTorch(
      "round", [&]() -> absl::StatusOr<at::Tensor> { return tensor.to(type); });
}

}  // namespace

absl::StatusOr<LoadOptions> LoadOptionsOf(const std::string& dtype,
                                          bool torchscript,
                                          const JobContext& context) {
  LoadOptions options;
  CAIRN_ASSIGN_OR_RETURN(options.dtype,
                         ParseArithmetic(dtype.empty() ? "float32" : dtype));
  CAIRN_ASSIGN_OR_RETURN(options.device, ParseDevice(context.device));
  options.threads = context.threads;
  if (torchscript) options.torch_script = TorchScript::kRun;
  return options;
}

absl::Status SetUpdated(const JobUpdate& update, const Checkpoint& weights,
                        int threads, Model& model) {
  CAIRN_RETURN_IF_ERROR(CheckFits(*update.update, *update.base));
  const std::vector<TouchedTensor>& touched = update.update->touched();
  std::vector<at::Tensor> tuned(touched.size());
  CAIRN_RETURN_IF_ERROR(ParallelFor(
      threads, static_cast<int64_t>(touched.size()),
      [&](int64_t i) -> absl::Status {
        const size_t at = static_cast<size_t>(i);
        CAIRN_ASSIGN_OR_RETURN(
            tuned[at],
            UpdatedTensor(update, weights, touched[at].name, model.dtype()));
        return absl::OkStatus();
      }));
  for (size_t i = 0; i < touched.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(model.SetParameter(touched[i].name, tuned[i]));
  }
  return absl::OkStatus();
}

absl::Status SetChanged(const Checkpoint& weights,
                        const v1::TensorManifest& manifest,
                        const v1::TensorManifest& loaded, Model& model) {
  for (const v1::Tensor& tensor : manifest.tensors()) {
    const v1::Tensor* before = FindTensor(loaded, tensor.name());
    if (before != nullptr && before->sha256() == tensor.sha256()) continue;
    const CheckpointTensor* entry = weights.Find(tensor.name());
    CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source,
                           weights.OpenTensor(tensor.name()));
    CAIRN_ASSIGN_OR_RETURN(at::Tensor value,
                           ReadTensor(*source, entry->dtype, entry->shape));
    CAIRN_RETURN_IF_ERROR(model.SetParameter(tensor.name(), value));
  }
  return absl::OkStatus();
}

}  // namespace cairn
