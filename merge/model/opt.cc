// OPT: learnt positions, layer norms before each block (after it in the 350 M
// model, whose embeddings are narrower than the network too).
#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

constexpr char kHead[] = "lm_head.weight";
// Rows of the table of positions that stand before the first position.
constexpr int64_t kPositionOffset = 2;
constexpr double kEpsilon = 1e-5;

struct OptConfig {
  LanguageModel::Traits traits;
  bool has_head = false;
  int64_t hidden = 0;
  int64_t embedding = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  bool normalizes_first = true;
  bool has_final_norm = true;
  Bias bias = Bias::kOne;
  Activation activation = nullptr;
};

class Opt final : public LanguageModel {
 public:
  explicit Opt(const OptConfig& config);

 private:
  struct Layer {
    Linear q, k, v, attention_out;
    LayerNorm attention_norm;
    Linear up, down;
    LayerNorm mlp_norm;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Opt>(config_);
  }
  at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const override;
  at::Tensor RunHead(const at::Tensor& hidden) const override {
    return Linear{.weight = head_}(hidden);
  }
  Layer MakeLayer(const ParameterScope& scope) const;
  at::Tensor RunAttention(const Layer& layer, const at::Tensor& x,
                          Memory::Layer* memory) const;

  const OptConfig config_;
  const at::Tensor* embeddings_;
  const at::Tensor* positions_;
  Linear project_in_, project_out_;  // none where the widths are equal
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  const at::Tensor* head_;
};

Opt::Opt(const OptConfig& config)
    : LanguageModel("OPTForCausalLM", config.traits), config_(config) {
  const ParameterScope root(table_, "");
  const ParameterScope body = root.Under("model.decoder");
  embeddings_ =
      body.Tensor("embed_tokens.weight", {vocab_size(), config.embedding});
  positions_ = body.Tensor("embed_positions.weight",
                           {longest_input() + kPositionOffset, config.hidden});
  if (config.embedding != config.hidden) {
    project_in_ = body.MakeLinear("project_in", config.embedding, config.hidden,
                                  Bias::kNone);
    project_out_ = body.MakeLinear("project_out", config.hidden,
                                   config.embedding, Bias::kNone);
  }
  for (int64_t i = 0; i < config.layers; ++i) {
    MarkLayer();
    layers_.push_back(MakeLayer(body.Under("layers", i)));
  }
  MarkLayer();
  if (config.has_final_norm) {
    final_norm_ =
        body.MakeLayerNorm("final_layer_norm", config.hidden, kEpsilon);
  }
  head_ = config.has_head ? root.Tensor(kHead, {vocab_size(), config.embedding})
                          : embeddings_;
}

Opt::Layer Opt::MakeLayer(const ParameterScope& scope) const {
  const int64_t hidden = config_.hidden;
  const ParameterScope attention = scope.Under("self_attn");
  return {
      .q = attention.MakeLinear("q_proj", hidden, hidden, config_.bias),
      .k = attention.MakeLinear("k_proj", hidden, hidden, config_.bias),
      .v = attention.MakeLinear("v_proj", hidden, hidden, config_.bias),
      .attention_out =
          attention.MakeLinear("out_proj", hidden, hidden, config_.bias),
      .attention_norm =
          scope.MakeLayerNorm("self_attn_layer_norm", hidden, kEpsilon),
      .up = scope.MakeLinear("fc1", hidden, config_.inner, config_.bias),
      .down = scope.MakeLinear("fc2", config_.inner, hidden, config_.bias),
      .mlp_norm = scope.MakeLayerNorm("final_layer_norm", hidden, kEpsilon)};
}

at::Tensor Opt::RunAttention(const Layer& layer, const at::Tensor& x,
                             Memory::Layer* memory) const {
  Memory::Layer seen;
  if (memory == nullptr) memory = &seen;
  memory->Append(SplitHeads(layer.k(x), config_.heads),
                 SplitHeads(layer.v(x), config_.heads));
  const double dim = static_cast<double>(config_.hidden / config_.heads);
  return layer.attention_out(Attend(SplitHeads(layer.q(x), config_.heads),
                                    memory->keys, memory->values,
                                    {.scale = 1 / std::sqrt(dim)}));
}

at::Tensor Opt::RunLayers(const at::Tensor& ids, Memory* memory) const {
  const int64_t past = memory == nullptr ? 0 : memory->length;
  const auto embed = [&] {
    at::Tensor x = Embed(*embeddings_, ids);
    if (project_in_.weight != nullptr) x = project_in_(x);
    return x + positions_->narrow(0, kPositionOffset + past, ids.size(1));
  };
  const bool is_first = config_.normalizes_first;
  const auto run = [&](size_t i, const at::Tensor& before,
                       Memory::Layer* seen) -> at::Tensor {
    const Layer& layer = layers_[i];
    at::Tensor x =
        before + RunAttention(layer,
                              is_first ? layer.attention_norm(before) : before,
                              seen);
    if (!is_first) x = layer.attention_norm(x);
    const at::Tensor mlp_input = is_first ? layer.mlp_norm(x) : x;
    x = x + layer.down(config_.activation(layer.up(mlp_input)));
    return is_first ? x : layer.mlp_norm(x);
  };
  at::Tensor x = RunStack(ids, memory, embed, run);
  if (config_.has_final_norm) x = final_norm_(x);
  return project_out_.weight == nullptr ? x : project_out_(x);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeOpt(absl::string_view,
                                               const ConfigReader& config,
                                               const ShapeMap& tensors) {
  ConfigReader reader = config;
  OptConfig out;
  out.traits = ReadTraits(reader, reader.Size("max_position_embeddings", 2048));
  out.hidden = reader.Size("hidden_size", 768);
  out.embedding = reader.Size("word_embed_proj_dim", out.hidden);
  out.inner = reader.Size("ffn_dim", 3072);
  out.layers = reader.Layers("num_hidden_layers", 12);
  out.heads = reader.Size("num_attention_heads", 12);
  out.normalizes_first = reader.Flag("do_layer_norm_before", true);
  out.has_final_norm =
      out.normalizes_first && !reader.Flag("_remove_final_layer_norm", false);
  out.bias = reader.Flag("enable_bias", true) ? Bias::kOne : Bias::kNone;
  out.has_head =
      tensors.contains(kHead) || !reader.Flag("tie_word_embeddings", true);
  CheckHeads(reader, "num_attention_heads", out.hidden, out.heads);
  const bool has_gains = reader.Flag("layer_norm_elementwise_affine", true);
  const std::string activation = reader.Text("activation_function", "relu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  if (!has_gains) {
    return UnsupportedConfig(
        "`layer_norm_elementwise_affine` false is not supported");
  }
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("activation_function", activation));
  return std::make_unique<Opt>(out);
}

}  // namespace cairn
