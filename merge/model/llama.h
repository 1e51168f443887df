#ifndef CAIRN_MERGE_MODEL_LLAMA_H_
#define CAIRN_MERGE_MODEL_LLAMA_H_

#include <memory>
#include <string>
#include <vector>

#include "merge/model/llama_config.h"
#include "merge/model/model.h"

namespace cairn {

// The Llama family: RMS norms, rotary positions, grouped queries, SwiGLU, tied
// or untied head. Equals transformers' LlamaForCausalLM.
class Llama final : public Model {
 public:
  static constexpr char kArchitecture[] = "LlamaForCausalLM";

  // `parameters` holds exactly what config.Parameters() lists, of one type and
  // on one device. Errors are DATA_LOSS: UNKNOWN_TENSOR for a missing or an
  // additional one, SHAPE_MISMATCH for a shape that the configuration does not
  // give; they name the tensor. A head is optional where the configuration
  // ties it; when it is there, it is used.
  static absl::StatusOr<std::unique_ptr<Llama>> Create(LlamaConfig config,
                                                       ParameterMap parameters);

  const LlamaConfig& config() const { return config_; }

  const std::string& architecture() const override;
  int64_t vocab_size() const override { return config_.vocab_size; }
  int64_t longest_input() const override { return config_.LongestInput(); }
  const std::vector<int64_t>& prefix_ids() const override {
    return config_.prefix_ids;
  }
  absl::StatusOr<at::Tensor> Hidden(const at::Tensor& ids) const override;
  absl::StatusOr<at::Tensor> Logits(const at::Tensor& hidden) const override;
  const ParameterMap& parameters() const override { return parameters_; }
  absl::Status SetParameter(absl::string_view name,
                            const at::Tensor& value) override;
  std::unique_ptr<Model> ShallowCopy() const override;

 private:
  // A matrix and, where the configuration has one, a bias.
  struct Linear {
    const at::Tensor* weight = nullptr;
    const at::Tensor* bias = nullptr;
    at::Tensor operator()(const at::Tensor& x) const;
  };
  // The parameters of one layer; they point into parameters_.
  struct Layer {
    const at::Tensor* input_norm;
    const at::Tensor* attention_norm;
    Linear q, k, v, o;
    Linear gate, up, down;
  };

  Llama(LlamaConfig config, ParameterMap parameters);

  Linear FindLinear(const std::string& name) const;
  absl::Status CheckIds(const at::Tensor& ids) const;
  at::Tensor Norm(const at::Tensor& x, const at::Tensor& gain) const;
  at::Tensor Attend(const Layer& layer, const at::Tensor& x,
                    const RopeTable& rope) const;
  at::Tensor RunLayers(const at::Tensor& ids) const;

  const LlamaConfig config_;
  ParameterMap parameters_;
  std::vector<Layer> layers_;
  const at::Tensor* embeddings_;
  const at::Tensor* final_norm_;
  const at::Tensor* head_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_MODEL_LLAMA_H_
