#include "merge/model/llama.h"

#include <ATen/ATen.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"
#include "merge/model/causal_attention.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

constexpr char kHead[] = "lm_head.weight";

}  // namespace

absl::StatusOr<std::unique_ptr<Llama>> Llama::Create(LlamaConfig config,
                                                     ParameterMap parameters) {
  ShapeMap shapes;
  for (const auto& [name, tensor] : parameters) {
    shapes[name] = tensor.sizes().vec();
  }
  CAIRN_RETURN_IF_ERROR(config.CheckTensors(shapes));
  return std::unique_ptr<Llama>(
      new Llama(std::move(config), std::move(parameters)));
}

Llama::Llama(LlamaConfig config, ParameterMap parameters)
    : config_(std::move(config)), parameters_(std::move(parameters)) {
  const auto find = [&](const std::string& name) {
    return &parameters_.find(name)->second;
  };
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    layers_.push_back(
        {.input_norm = find(layer + "input_layernorm.weight"),
         .attention_norm = find(layer + "post_attention_layernorm.weight"),
         .q = FindLinear(layer + "self_attn.q_proj"),
         .k = FindLinear(layer + "self_attn.k_proj"),
         .v = FindLinear(layer + "self_attn.v_proj"),
         .o = FindLinear(layer + "self_attn.o_proj"),
         .gate = FindLinear(layer + "mlp.gate_proj"),
         .up = FindLinear(layer + "mlp.up_proj"),
         .down = FindLinear(layer + "mlp.down_proj")});
  }
  embeddings_ = find("model.embed_tokens.weight");
  final_norm_ = find("model.norm.weight");
  head_ = parameters_.contains(kHead) ? find(kHead) : embeddings_;
}

Llama::Linear Llama::FindLinear(const std::string& name) const {
  const auto bias = parameters_.find(name + ".bias");
  return {.weight = &parameters_.find(name + ".weight")->second,
          .bias = bias == parameters_.end() ? nullptr : &bias->second};
}

at::Tensor Llama::Linear::operator()(const at::Tensor& x) const {
  return bias ? at::linear(x, *weight, *bias) : at::linear(x, *weight);
}

const std::string& Llama::architecture() const {
  static const std::string* const kName = new std::string(kArchitecture);
  return *kName;
}

absl::Status Llama::CheckIds(const at::Tensor& ids) const {
  if (ids.dim() != 2 || ids.scalar_type() != at::kLong || ids.numel() == 0) {
    return absl::InvalidArgumentError(
        "token ids should be a tensor of int64 of shape [batch, tokens]");
  }
  if (ids.size(1) > longest_input()) {
    return absl::InvalidArgumentError(
        absl::StrCat("an input of ", ids.size(1), " tokens; the model takes ",
                     longest_input(), " at most"));
  }
  const auto [low, high] = at::aminmax(ids.flatten());
  const int64_t least = low.item<int64_t>(), most = high.item<int64_t>();
  if (least < 0 || most >= vocab_size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("token id ", least < 0 ? least : most,
                     " is not in the vocabulary of ", vocab_size()));
  }
  return absl::OkStatus();
}

at::Tensor Llama::Norm(const at::Tensor& x, const at::Tensor& gain) const {
  const at::Tensor wide = x.to(at::kFloat);
  const at::Tensor scale = at::rsqrt((wide * wide).mean(-1, /*keepdim=*/true) +
                                     config_.rms_norm_eps);
  return (wide * scale).to(x.scalar_type()) * gain;
}

at::Tensor Llama::Attend(const Layer& layer, const at::Tensor& x,
                         const RopeTable& rope) const {
  const auto split = [&](const at::Tensor& projected, int64_t heads) {
    return projected.view({x.size(0), x.size(1), heads, config_.head_dim})
        .transpose(1, 2);
  };
  const at::Tensor q = ApplyRope(split(layer.q(x), config_.heads), rope);
  const at::Tensor k = ApplyRope(split(layer.k(x), config_.kv_heads), rope);
  const at::Tensor v = split(layer.v(x), config_.kv_heads);
  return layer.o(
      CausalAttention(q.to(x.scalar_type()), k.to(x.scalar_type()), v));
}

at::Tensor Llama::RunLayers(const at::Tensor& ids) const {
  const RopeTable rope =
      MakeRopeTable(config_.rope, config_.head_dim,
                    config_.max_position_embeddings, ids.size(1), device());
  at::Tensor x = at::embedding(*embeddings_, ids.to(device()));
  for (const Layer& layer : layers_) {
    x = x + Attend(layer, Norm(x, *layer.input_norm), rope);
    const at::Tensor normed = Norm(x, *layer.attention_norm);
    x = x + layer.down(at::silu(layer.gate(normed)) * layer.up(normed));
  }
  return Norm(x, *final_norm_);
}

absl::StatusOr<at::Tensor> Llama::Hidden(const at::Tensor& ids) const {
  return CatchTorch("running the model", [&]() -> absl::StatusOr<at::Tensor> {
    CAIRN_RETURN_IF_ERROR(CheckIds(ids));
    return RunLayers(ids);
  });
}

absl::StatusOr<at::Tensor> Llama::Logits(const at::Tensor& hidden) const {
  return CatchTorch("running the head", [&]() -> absl::StatusOr<at::Tensor> {
    return at::linear(hidden, *head_);
  });
}

absl::Status Llama::SetParameter(absl::string_view name,
                                 const at::Tensor& value) {
  const auto it = parameters_.find(name);
  if (it == parameters_.end()) {
    return ReasonedError(absl::StatusCode::kNotFound, "UNKNOWN_TENSOR",
                         absl::StrCat("the model has no tensor ", name),
                         {{"tensor", std::string(name)}});
  }
  if (value.sizes() != it->second.sizes()) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
        absl::StrCat("tensor ", name, " has shape ", TensorShapeText(value),
                     "; it should be ", TensorShapeText(it->second)),
        {{"tensor", std::string(name)}});
  }
  return CatchTorch("replacing a parameter", [&] {
    it->second = value.to(it->second.options());
    return absl::OkStatus();
  });
}

std::unique_ptr<Model> Llama::ShallowCopy() const {
  return std::unique_ptr<Model>(new Llama(config_, parameters_));
}

}  // namespace cairn
