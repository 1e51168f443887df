#ifndef CAIRN_MERGE_MODEL_LOAD_MODEL_H_
#define CAIRN_MERGE_MODEL_LOAD_MODEL_H_

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/checkpoint.h"
#include "merge/model/model.h"

namespace cairn {

enum class TorchScript { kRefuse, kRun };

struct LoadOptions {
  // Arithmetic: F32 or BF16. Stored weights are converted to it.
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::Device(at::kCPU);
  // Threads that read and convert.
  int threads = 1;
  // Whether torchscript.pt may be run, for a model that is none of the
  // families: it is code, although it can do no more than compute.
  TorchScript torch_script = TorchScript::kRefuse;
};

// Makes the model that config.json describes, without values. `tensors` are
// the names and shapes of the checkpoint that will fill it; empty: names as
// transformers writes them. UNIMPLEMENTED with UNSUPPORTED for a sound
// configuration that cannot be run here (architecture, rope kind, activation),
// DATA_LOSS with MALFORMED_FILE for one that is none.
absl::StatusOr<std::unique_ptr<Model>> MakeModel(absl::string_view config_json,
                                                 const ShapeMap& tensors);

// Loads a model of a Hugging Face checkpoint. Errors carry a reason and name
// file or tensor: UNIMPLEMENTED for what is sound but cannot be run here (an
// architecture, a rope kind, an activation, pickled weights, a dtype),
// DATA_LOSS for what is broken in itself (configuration, safetensors, a
// missing or additional tensor, a wrong shape, a value that is not finite),
// NOT_FOUND where there is no checkpoint.
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const Checkpoint& checkpoint,
                                                 const LoadOptions& options);
absl::StatusOr<std::unique_ptr<Model>> LoadModelDirectory(
    const std::string& directory, const LoadOptions& options);

// As Checkpoint::OpenDirectory, with the errors of LoadModel.
absl::StatusOr<Checkpoint> OpenModelDirectory(const std::string& directory);

// "cpu", "cuda" or "cuda:N". INVALID_ARGUMENT for anything else,
// FAILED_PRECONDITION for a device that this machine or build has not.
absl::StatusOr<at::Device> ParseDevice(absl::string_view text);

// "float32" or "bfloat16"; INVALID_ARGUMENT otherwise.
absl::StatusOr<at::ScalarType> ParseArithmetic(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LOAD_MODEL_H_
