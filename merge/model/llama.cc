// The Llama family: RMS norms, rotary positions, grouped queries, gated MLP.
#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"
#include "merge/model/llama_config.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

constexpr char kHead[] = "lm_head.weight";

class Llama final : public LanguageModel {
 public:
  Llama(const LlamaConfig& config, bool has_head);

 private:
  struct Layer {
    LlamaConfig::LayerKind kind;
    RmsNorm attention_norm, attention_post_norm;
    RmsNorm mlp_norm, mlp_post_norm;
    RmsNorm query_norm, key_norm;
    Linear qkv, q, k, v, o;  // qkv or the three
    Linear gate_up, gate, up, down;
  };
  struct Projections {
    at::Tensor q, k, v;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Llama>(config_, has_head_);
  }
  at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const override;
  at::Tensor RunHead(const at::Tensor& hidden) const override;

  RmsNorm MakeNorm(const ParameterScope& scope, absl::string_view name,
                   int64_t width) const;
  Layer MakeLayer(const ParameterScope& scope, size_t index) const;
  Projections Project(const Layer& layer, const at::Tensor& x) const;
  at::Tensor RunAttention(const Layer& layer, const at::Tensor& x,
                          const RopeTable& rope, Memory::Layer* memory) const;
  at::Tensor RunMlp(const Layer& layer, const at::Tensor& x) const;

  const LlamaConfig config_;
  const bool has_head_;
  const at::Tensor* embeddings_;
  std::vector<Layer> layers_;
  RmsNorm final_norm_;
  const at::Tensor* head_;
};

Llama::Llama(const LlamaConfig& config, bool has_head)
    : LanguageModel(config.architecture, config.traits),
      config_(config),
      has_head_(has_head) {
  const ParameterScope root(table_, ""), body = root.Under("model");
  embeddings_ =
      body.Tensor("embed_tokens.weight", {vocab_size(), config_.hidden_size});
  for (size_t i = 0; i < config_.layers.size(); ++i) {
    MarkLayer();
    layers_.push_back(
        MakeLayer(body.Under("layers", static_cast<int64_t>(i)), i));
  }
  MarkLayer();
  final_norm_ = MakeNorm(body, "norm", config_.hidden_size);
  head_ = has_head_ ? root.Tensor(kHead, {vocab_size(), config_.hidden_size})
                    : embeddings_;
}

RmsNorm Llama::MakeNorm(const ParameterScope& scope, absl::string_view name,
                        int64_t width) const {
  RmsNorm norm = scope.MakeRmsNorm(name, width, config_.rms_norm_eps);
  norm.adds_one = config_.is_gemma;
  return norm;
}

Llama::Layer Llama::MakeLayer(const ParameterScope& scope, size_t index) const {
  const int64_t hidden = config_.hidden_size, inner = config_.intermediate_size;
  const int64_t query = config_.heads * config_.head_dim;
  const int64_t key = config_.kv_heads * config_.head_dim;
  const Bias qkv_bias = config_.has_qkv_bias ? Bias::kOne : Bias::kNone;
  const Bias output_bias = config_.has_output_bias ? Bias::kOne : Bias::kNone;
  const Bias mlp_bias = config_.has_mlp_bias ? Bias::kOne : Bias::kNone;
  const ParameterScope attention = scope.Under("self_attn");
  const ParameterScope mlp = scope.Under("mlp");
  Layer layer;
  layer.kind = config_.layers[index];
  layer.attention_norm = MakeNorm(scope, "input_layernorm", hidden);
  if (config_.has_fused_projections) {
    layer.qkv =
        attention.MakeLinear("qkv_proj", hidden, query + 2 * key, qkv_bias);
  } else {
    layer.q = attention.MakeLinear("q_proj", hidden, query, qkv_bias);
    layer.k = attention.MakeLinear("k_proj", hidden, key, qkv_bias);
    layer.v = attention.MakeLinear("v_proj", hidden, key, qkv_bias);
  }
  layer.o = attention.MakeLinear("o_proj", query, hidden, output_bias);
  if (config_.has_query_key_norms) {
    layer.query_norm = MakeNorm(attention, "q_norm", config_.head_dim);
    layer.key_norm = MakeNorm(attention, "k_norm", config_.head_dim);
  }
  // Gemma 2 has two norms more, and this name stands for another one there.
  RmsNorm& second =
      config_.has_post_norms ? layer.attention_post_norm : layer.mlp_norm;
  second = MakeNorm(scope, "post_attention_layernorm", hidden);
  if (config_.has_post_norms) {
    layer.mlp_norm = MakeNorm(scope, "pre_feedforward_layernorm", hidden);
    layer.mlp_post_norm = MakeNorm(scope, "post_feedforward_layernorm", hidden);
  }
  if (config_.has_fused_projections) {
    layer.gate_up = mlp.MakeLinear("gate_up_proj", hidden, 2 * inner, mlp_bias);
  } else {
    layer.gate = mlp.MakeLinear("gate_proj", hidden, inner, mlp_bias);
    layer.up = mlp.MakeLinear("up_proj", hidden, inner, mlp_bias);
  }
  layer.down = mlp.MakeLinear("down_proj", inner, hidden, mlp_bias);
  return layer;
}

Llama::Projections Llama::Project(const Layer& layer,
                                  const at::Tensor& x) const {
  if (!config_.has_fused_projections) {
    return {layer.q(x), layer.k(x), layer.v(x)};
  }
  const int64_t query = config_.heads * config_.head_dim;
  const int64_t key = config_.kv_heads * config_.head_dim;
  const at::Tensor all = layer.qkv(x);
  return {all.narrow(-1, 0, query), all.narrow(-1, query, key),
          all.narrow(-1, query + key, key)};
}

at::Tensor Llama::RunAttention(const Layer& layer, const at::Tensor& x,
                               const RopeTable& rope,
                               Memory::Layer* memory) const {
  const Projections projected = Project(layer, x);
  at::Tensor q = SplitHeads(projected.q, config_.heads);
  at::Tensor k = SplitHeads(projected.k, config_.kv_heads);
  at::Tensor v = SplitHeads(projected.v, config_.kv_heads);
  if (config_.has_query_key_norms) {
    q = layer.query_norm(q);
    k = layer.key_norm(k);
  }
  if (layer.kind.has_rope) {
    q = ApplyRope(q, rope);
    k = ApplyRope(k, rope);
  }
  if (memory != nullptr) {
    memory->Append(k, v);
    k = memory->keys;
    v = memory->values;
  }
  return layer.o(Attend(q, k, v,
                        {.scale = config_.attention_scale,
                         .is_causal = true,
                         .window = layer.kind.window,
                         .softcap = config_.attention_softcap,
                         .bias = {}}));
}

at::Tensor Llama::RunMlp(const Layer& layer, const at::Tensor& x) const {
  if (!config_.has_fused_projections) {
    return layer.down(
        ActivateGate(config_.activation, layer.gate(x), layer.up(x)));
  }
  const int64_t inner = config_.intermediate_size;
  const at::Tensor both = layer.gate_up(x);
  return layer.down(ActivateGate(config_.activation, both.narrow(-1, 0, inner),
                                 both.narrow(-1, inner, inner)));
}

at::Tensor Llama::RunLayers(const at::Tensor& ids, Memory* memory) const {
  const int64_t past = memory == nullptr ? 0 : memory->length;
  const int64_t length = past + ids.size(1);
  const RopeTable rope = RowsOf(
      MakeRopeTable(config_.rope, config_.rope.RotaryDim(config_.head_dim),
                    config_.max_position_embeddings, length, device()),
      past, ids.size(1));
  const auto embed = [&] {
    const at::Tensor x = Embed(*embeddings_, ids);
    if (!config_.is_gemma) return x;
    return x * std::sqrt(static_cast<double>(config_.hidden_size));
  };
  const auto run = [&](size_t i, const at::Tensor& before,
                       Memory::Layer* seen) -> at::Tensor {
    const Layer& layer = layers_[i];
    at::Tensor attended =
        RunAttention(layer, layer.attention_norm(before), rope, seen);
    if (config_.has_post_norms) attended = layer.attention_post_norm(attended);
    const at::Tensor x = before + attended;
    at::Tensor out = RunMlp(layer, layer.mlp_norm(x));
    if (config_.has_post_norms) out = layer.mlp_post_norm(out);
    return x + out;
  };
  return final_norm_(RunStack(ids, memory, embed, run));
}

at::Tensor Llama::RunHead(const at::Tensor& hidden) const {
  const at::Tensor logits = Linear{.weight = head_}(hidden);
  if (config_.final_softcap == 0) return logits;
  return at::tanh(logits / config_.final_softcap) * config_.final_softcap;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeLlama(absl::string_view architecture,
                                                 const ConfigReader& config,
                                                 const ShapeMap& tensors) {
  CAIRN_ASSIGN_OR_RETURN(const LlamaConfig parsed,
                         LlamaConfig::Parse(architecture, config));
  const bool has_head = !parsed.ties_embeddings || tensors.contains(kHead);
  return std::make_unique<Llama>(parsed, has_head);
}

}  // namespace cairn
