// GPT-NeoX and Pythia: rotary positions on a part of each head, attention and
// MLP side by side.
#include <ATen/ATen.h>

#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"
#include "merge/model/rope.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

constexpr char kHead[] = "embed_out.weight";

struct GptNeoXConfig {
  LanguageModel::Traits traits;
  bool has_head = true;
  int64_t positions = 0;
  int64_t hidden = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  double epsilon = 1e-5;
  bool is_parallel = true;
  Bias attention_bias = Bias::kOne;
  RopeConfig rope;
  Activation activation = nullptr;

  int64_t head_dim() const { return hidden / heads; }
};

class GptNeoX final : public LanguageModel {
 public:
  explicit GptNeoX(const GptNeoXConfig& config);

 private:
  struct Layer {
    LayerNorm attention_norm, mlp_norm;
    Linear qkv, attention_out;
    Linear up, down;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<GptNeoX>(config_);
  }
  at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const override;
  at::Tensor RunHead(const at::Tensor& hidden) const override {
    return Linear{.weight = head_}(hidden);
  }
  at::Tensor RunAttention(const Layer& layer, const at::Tensor& x,
                          const RopeTable& rope, Memory::Layer* memory) const;

  const GptNeoXConfig config_;
  const at::Tensor* embeddings_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  const at::Tensor* head_;
};

GptNeoX::GptNeoX(const GptNeoXConfig& config)
    : LanguageModel("GPTNeoXForCausalLM", config.traits), config_(config) {
  const int64_t hidden = config.hidden;
  const ParameterScope root(table_, ""), body = root.Under("gpt_neox");
  embeddings_ = body.Tensor("embed_in.weight", {vocab_size(), hidden});
  for (int64_t i = 0; i < config.layers; ++i) {
    MarkLayer();
    const ParameterScope scope = body.Under("layers", i);
    const ParameterScope attention = scope.Under("attention");
    const ParameterScope mlp = scope.Under("mlp");
    layers_.push_back(
        {.attention_norm =
             scope.MakeLayerNorm("input_layernorm", hidden, config.epsilon),
         .mlp_norm = scope.MakeLayerNorm("post_attention_layernorm", hidden,
                                         config.epsilon),
         .qkv = attention.MakeLinear("query_key_value", hidden, 3 * hidden,
                                     config.attention_bias),
         .attention_out = attention.MakeLinear("dense", hidden, hidden,
                                               config.attention_bias),
         .up =
             mlp.MakeLinear("dense_h_to_4h", hidden, config.inner, Bias::kOne),
         .down = mlp.MakeLinear("dense_4h_to_h", config.inner, hidden,
                                Bias::kOne)});
  }
  MarkLayer();
  final_norm_ = body.MakeLayerNorm("final_layer_norm", hidden, config.epsilon);
  head_ = config.has_head ? root.Tensor(kHead, {vocab_size(), hidden})
                          : embeddings_;
}

at::Tensor GptNeoX::RunAttention(const Layer& layer, const at::Tensor& x,
                                 const RopeTable& rope,
                                 Memory::Layer* memory) const {
  // Query, key and value of each head lie side by side.
  const std::vector<at::Tensor> qkv =
      SplitHeads(layer.qkv(x), config_.heads).chunk(3, -1);
  Memory::Layer seen;
  if (memory == nullptr) memory = &seen;
  memory->Append(ApplyRope(qkv[1], rope), qkv[2]);
  const double dim = static_cast<double>(config_.head_dim());
  return layer.attention_out(Attend(ApplyRope(qkv[0], rope), memory->keys,
                                    memory->values,
                                    {.scale = 1 / std::sqrt(dim)}));
}

at::Tensor GptNeoX::RunLayers(const at::Tensor& ids, Memory* memory) const {
  const int64_t past = memory == nullptr ? 0 : memory->length;
  const RopeTable rope = RowsOf(
      MakeRopeTable(config_.rope, config_.rope.RotaryDim(config_.head_dim()),
                    config_.positions, past + ids.size(1), device()),
      past, ids.size(1));
  const auto embed = [&] { return Embed(*embeddings_, ids); };
  const auto run = [&](size_t i, const at::Tensor& x,
                       Memory::Layer* seen) -> at::Tensor {
    const Layer& layer = layers_[i];
    const at::Tensor attended =
        RunAttention(layer, layer.attention_norm(x), rope, seen);
    const at::Tensor mlp_input = config_.is_parallel ? x : x + attended;
    const at::Tensor out =
        layer.down(config_.activation(layer.up(layer.mlp_norm(mlp_input))));
    return config_.is_parallel ? out + attended + x : out + mlp_input;
  };
  return final_norm_(RunStack(ids, memory, embed, run));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeGptNeoX(absl::string_view,
                                                   const ConfigReader& config,
                                                   const ShapeMap& tensors) {
  ConfigReader reader = config;
  GptNeoXConfig out;
  out.positions = reader.Size("max_position_embeddings", 2048);
  out.traits = ReadTraits(reader, out.positions);
  out.hidden = reader.Size("hidden_size");
  out.inner = reader.Size("intermediate_size");
  out.layers = reader.Layers("num_hidden_layers");
  out.heads = reader.Size("num_attention_heads");
  out.epsilon = reader.Positive("layer_norm_eps", out.epsilon);
  out.is_parallel = reader.Flag("use_parallel_residual", true);
  out.attention_bias =
      reader.Flag("attention_bias", true) ? Bias::kOne : Bias::kNone;
  out.has_head =
      tensors.contains(kHead) || !reader.Flag("tie_word_embeddings", false);
  CheckHeads(reader, "num_attention_heads", out.hidden, out.heads);
  const std::string activation = reader.Text("hidden_act", "gelu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("hidden_act", activation));
  CAIRN_ASSIGN_OR_RETURN(
      out.rope, RopeConfig::Read(reader, "rotary_emb_base", "rotary_pct", 0.25,
                                 out.head_dim(), out.positions));
  out.traits.limits.longest_input = out.rope.LongestInput(out.positions);
  out.traits.is_incremental = !out.rope.depends_on_length();
  return std::make_unique<GptNeoX>(out);
}

}  // namespace cairn
