// GPT-2: learnt positions, layer norms before each block, a fused projection.
#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

constexpr char kHead[] = "lm_head.weight";

struct Gpt2Config {
  LanguageModel::Traits traits;
  std::string prefix;
  bool has_head = false;
  int64_t hidden = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  double epsilon = 1e-5;
  bool scales_scores = true;
  bool scales_by_layer = false;
  Activation activation = nullptr;
};

class Gpt2 final : public LanguageModel {
 public:
  explicit Gpt2(const Gpt2Config& config);

 private:
  struct Layer {
    LayerNorm attention_norm, mlp_norm;
    Linear qkv, attention_out;
    Linear up, down;
    double scale;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Gpt2>(config_);
  }
  at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const override;
  at::Tensor RunHead(const at::Tensor& hidden) const override {
    return Linear{.weight = head_}(hidden);
  }
  at::Tensor RunAttention(const Layer& layer, const at::Tensor& x,
                          Memory::Layer* memory) const;

  const Gpt2Config config_;
  const at::Tensor* embeddings_;
  const at::Tensor* positions_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  const at::Tensor* head_;
};

Gpt2::Gpt2(const Gpt2Config& config)
    : LanguageModel("GPT2LMHeadModel", config.traits), config_(config) {
  const int64_t hidden = config.hidden;
  const ParameterScope root(table_, ""), body(table_, config.prefix);
  embeddings_ = body.Tensor("wte.weight", {vocab_size(), hidden});
  positions_ = body.Tensor("wpe.weight", {longest_input(), hidden});
  for (int64_t i = 0; i < config.layers; ++i) {
    MarkLayer();
    const ParameterScope scope = body.Under("h", i);
    const ParameterScope attention = scope.Under("attn");
    const ParameterScope mlp = scope.Under("mlp");
    const double by_dim = std::sqrt(static_cast<double>(hidden / config.heads));
    const double by_layer = config.scales_by_layer ? 1.0 / double(i + 1) : 1.0;
    layers_.push_back(
        {.attention_norm = scope.MakeLayerNorm("ln_1", hidden, config.epsilon),
         .mlp_norm = scope.MakeLayerNorm("ln_2", hidden, config.epsilon),
         .qkv = attention.MakeConv1d("c_attn", hidden, 3 * hidden),
         .attention_out = attention.MakeConv1d("c_proj", hidden, hidden),
         .up = mlp.MakeConv1d("c_fc", hidden, config.inner),
         .down = mlp.MakeConv1d("c_proj", config.inner, hidden),
         .scale = by_layer * (config.scales_scores ? 1 / by_dim : 1.0)});
  }
  MarkLayer();
  final_norm_ = body.MakeLayerNorm("ln_f", hidden, config.epsilon);
  head_ = config.has_head ? root.Tensor(kHead, {vocab_size(), hidden})
                          : embeddings_;
}

at::Tensor Gpt2::RunAttention(const Layer& layer, const at::Tensor& x,
                              Memory::Layer* memory) const {
  const std::vector<at::Tensor> qkv = layer.qkv(x).chunk(3, -1);
  const at::Tensor q = SplitHeads(qkv[0], config_.heads);
  Memory::Layer seen;
  if (memory == nullptr) memory = &seen;
  memory->Append(SplitHeads(qkv[1], config_.heads),
                 SplitHeads(qkv[2], config_.heads));
  return layer.attention_out(
      Attend(q, memory->keys, memory->values, {.scale = layer.scale}));
}

at::Tensor Gpt2::RunLayers(const at::Tensor& ids, Memory* memory) const {
  const int64_t past = memory == nullptr ? 0 : memory->length;
  const auto embed = [&] {
    return Embed(*embeddings_, ids) + positions_->narrow(0, past, ids.size(1));
  };
  const auto run = [&](size_t i, const at::Tensor& before,
                       Memory::Layer* seen) -> at::Tensor {
    const Layer& layer = layers_[i];
    const at::Tensor x =
        before + RunAttention(layer, layer.attention_norm(before), seen);
    return x + layer.down(config_.activation(layer.up(layer.mlp_norm(x))));
  };
  return final_norm_(RunStack(ids, memory, embed, run));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeGpt2(absl::string_view,
                                                const ConfigReader& config,
                                                const ShapeMap& tensors) {
  ConfigReader reader = config;
  Gpt2Config out;
  out.traits = ReadTraits(reader, reader.Size("n_positions", 1024));
  out.prefix = PrefixInUse(tensors, "transformer.");
  out.hidden = reader.Size("n_embd", 768);
  out.inner = reader.Size("n_inner", 4 * out.hidden);
  out.layers = reader.Layers("n_layer", 12);
  out.heads = reader.Size("n_head", 12);
  out.epsilon = reader.Positive("layer_norm_epsilon", out.epsilon);
  out.scales_scores = reader.Flag("scale_attn_weights", true);
  out.scales_by_layer = reader.Flag("scale_attn_by_inverse_layer_idx", false);
  out.has_head =
      tensors.contains(kHead) || !reader.Flag("tie_word_embeddings", true);
  CheckHeads(reader, "n_head", out.hidden, out.heads);
  const bool has_cross_attention = reader.Flag("add_cross_attention", false);
  const std::string activation = reader.Text("activation_function", "gelu_new");
  CAIRN_RETURN_IF_ERROR(reader.status());
  if (has_cross_attention) {
    return UnsupportedConfig("`add_cross_attention` is not supported");
  }
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("activation_function", activation));
  return std::make_unique<Gpt2>(out);
}

}  // namespace cairn
