#ifndef CAIRN_MERGE_MODEL_TORCH_SCRIPT_GRAPH_H_
#define CAIRN_MERGE_MODEL_TORCH_SCRIPT_GRAPH_H_

#include <ATen/core/Tensor.h>
#include <torch/csrc/jit/runtime/interpreter.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// The `forward` of a TorchScript module as a function of its inputs and of all
// its tensors, so that these can be replaced call by call. Nothing in it can
// reach a file, the network, chance or its own state: what such a graph gives
// depends on what it is given alone. It runs as it stands, without fusion or
// other optimisation, so that the first run and the hundredth are the same.
// Immutable and thread-safe.
class TorchScriptGraph {
 public:
  struct Tensor {
    std::string name;  // "model.layers.0.weight"
    std::vector<int64_t> shape;
    at::ScalarType dtype = at::kFloat;
    bool is_parameter = false;
    at::Tensor value;  // as the file has it; a parameter's is not kept
    // Index of the first tensor that is the same one: its own, unless tied.
    size_t same_as = 0;
  };

  // DATA_LOSS with MALFORMED_FILE for what is no TorchScript module,
  // UNIMPLEMENTED with UNSUPPORTED for one that does what it must not (the
  // operator is named) or whose parameters are not tensors of their own.
  static absl::StatusOr<std::shared_ptr<const TorchScriptGraph>> Load(
      SharedSource file);

  // Parameters and buffers, whether forward uses them or not.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Inputs of forward.
  size_t inputs() const { return inputs_; }

  // Runs forward with `values` in place of tensors(). Where it gives several
  // things, the first, or `logits`. Throws what libtorch throws.
  at::Tensor Run(const std::vector<at::Tensor>& inputs,
                 const std::vector<at::Tensor>& values) const;

 private:
  TorchScriptGraph() = default;
  absl::Status Read(SharedSource file);

  std::vector<Tensor> tensors_;
  size_t inputs_ = 0;
  // Which tensors the graph takes after its inputs.
  std::vector<size_t> taken_;
  torch::jit::Code code_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_TORCH_SCRIPT_GRAPH_H_
