// T5 and Flan-T5: an encoder and a decoder with positions as biases of scores.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

constexpr char kHead[] = "lm_head.weight";

struct T5Config {
  LanguageModel::Traits traits;
  bool has_head = false;
  bool scales_output = true;
  int64_t hidden = 0;
  int64_t head_dim = 0;
  int64_t inner = 0;
  int64_t encoder_layers = 0;
  int64_t decoder_layers = 0;
  int64_t heads = 0;
  int64_t buckets = 0;
  int64_t max_distance = 0;
  double epsilon = 1e-6;
  bool is_gated = false;
  Activation activation = nullptr;
};

struct T5Attention {
  RmsNorm norm;
  Linear q, k, v, o;
};

struct T5Layer {
  T5Attention self;
  T5Attention cross;  // decoder only
  RmsNorm mlp_norm;
  Linear gate, up, down;  // gate: only where the MLP is gated
};

// Encoder or decoder.
struct T5Stack {
  const at::Tensor* position_bias = nullptr;  // [buckets, heads]
  std::vector<T5Layer> layers;
  RmsNorm final_norm;
};

// The bucket of each key's distance from each query.
at::Tensor Buckets(const T5Config& config, int64_t past, int64_t queries,
                   int64_t keys, bool is_decoder) {
  at::Tensor distance =
      at::arange(keys, at::kLong).unsqueeze(0) -
      at::arange(past, past + queries, at::kLong).unsqueeze(1);
  const int64_t count = is_decoder ? config.buckets : config.buckets / 2;
  at::Tensor first = at::zeros_like(distance);
  if (is_decoder) {
    distance = (-distance).clamp_min(0);
  } else {
    first = (distance > 0).to(at::kLong) * count;
    distance = distance.abs();
  }
  const int64_t exact = count / 2;
  const double range = std::log(static_cast<double>(config.max_distance) /
                                static_cast<double>(exact));
  const at::Tensor far = exact + (at::log(distance.to(at::kFloat) / exact) /
                                  range * static_cast<double>(count - exact))
                                     .to(at::kLong);
  return first +
         at::where(distance < exact, distance, far.clamp_max(count - 1));
}

class T5 final : public LanguageModel {
 public:
  explicit T5(const T5Config& config);

  // Embeddings of both sides that were saved beside the shared ones, and a
  // table that the first versions had and did not use.
  bool Ignores(absl::string_view tensor) const override {
    return Model::Ignores(tensor) || tensor == "encoder.embed_tokens.weight" ||
           tensor == "decoder.embed_tokens.weight" ||
           absl::EndsWith(tensor,
                          "EncDecAttention.relative_attention_bias.weight");
  }

 private:
  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<T5>(config_);
  }
  Memory RunEncoder(const at::Tensor& ids) const override;
  at::Tensor RunLayers(const at::Tensor& ids, Memory* memory) const override;
  at::Tensor RunHead(const at::Tensor& hidden) const override;

  T5Stack MakeStack(const ParameterScope& scope, int64_t layers,
                    bool is_decoder) const;
  T5Attention MakeAttention(const ParameterScope& scope,
                            absl::string_view name) const;
  at::Tensor PositionBias(const T5Stack& stack, int64_t past, int64_t queries,
                          bool is_decoder) const;
  Memory::Layer KeysOf(const T5Attention& attention, const at::Tensor& x) const;
  at::Tensor RunAttention(const T5Attention& attention, const at::Tensor& x,
                          const Memory::Layer& seen, bool is_causal,
                          const at::Tensor& bias) const;
  at::Tensor RunMlp(const T5Layer& layer, const at::Tensor& x) const;

  const T5Config config_;
  const at::Tensor* embeddings_;
  T5Stack encoder_, decoder_;
  const at::Tensor* head_;
};

T5::T5(const T5Config& config)
    : LanguageModel("T5ForConditionalGeneration", config.traits),
      config_(config) {
  const ParameterScope root(table_, "");
  embeddings_ = root.Tensor("shared.weight", {vocab_size(), config.hidden});
  encoder_ = MakeStack(root.Under("encoder"), config.encoder_layers, false);
  decoder_ = MakeStack(root.Under("decoder"), config.decoder_layers, true);
  head_ = config.has_head ? root.Tensor(kHead, {vocab_size(), config.hidden})
                          : embeddings_;
}

T5Stack T5::MakeStack(const ParameterScope& scope, int64_t layers,
                      bool is_decoder) const {
  T5Stack stack;
  for (int64_t i = 0; i < layers; ++i) {
    const ParameterScope block = scope.Under("block", i);
    const ParameterScope first = block.Under("layer", 0);
    T5Layer layer;
    layer.self = MakeAttention(first, "SelfAttention");
    if (i == 0) {
      stack.position_bias = first.Under("SelfAttention")
                                .Tensor("relative_attention_bias.weight",
                                        {config_.buckets, config_.heads});
    }
    if (is_decoder) {
      layer.cross = MakeAttention(block.Under("layer", 1), "EncDecAttention");
    }
    const ParameterScope last = block.Under("layer", is_decoder ? 2 : 1);
    const ParameterScope mlp = last.Under("DenseReluDense");
    const auto make = [&](const char* name, int64_t in, int64_t out) {
      return mlp.MakeLinear(name, in, out, Bias::kNone);
    };
    if (config_.is_gated) {
      layer.gate = make("wi_0", config_.hidden, config_.inner);
    }
    layer.up =
        make(config_.is_gated ? "wi_1" : "wi", config_.hidden, config_.inner);
    layer.down = make("wo", config_.inner, config_.hidden);
    layer.mlp_norm =
        last.MakeRmsNorm("layer_norm", config_.hidden, config_.epsilon);
    stack.layers.push_back(layer);
  }
  stack.final_norm =
      scope.MakeRmsNorm("final_layer_norm", config_.hidden, config_.epsilon);
  return stack;
}

T5Attention T5::MakeAttention(const ParameterScope& scope,
                              absl::string_view name) const {
  const ParameterScope attention = scope.Under(name);
  const int64_t width = config_.heads * config_.head_dim;
  const auto make = [&](const char* part, int64_t in, int64_t out) {
    return attention.MakeLinear(part, in, out, Bias::kNone);
  };
  return {
      .norm = scope.MakeRmsNorm("layer_norm", config_.hidden, config_.epsilon),
      .q = make("q", config_.hidden, width),
      .k = make("k", config_.hidden, width),
      .v = make("v", config_.hidden, width),
      .o = make("o", width, config_.hidden)};
}

at::Tensor T5::PositionBias(const T5Stack& stack, int64_t past, int64_t queries,
                            bool is_decoder) const {
  const at::Tensor buckets =
      Buckets(config_, past, queries, past + queries, is_decoder);
  return Embed(*stack.position_bias, buckets.to(device())).permute({2, 0, 1});
}

Memory::Layer T5::KeysOf(const T5Attention& attention,
                         const at::Tensor& x) const {
  return {SplitHeads(attention.k(x), config_.heads),
          SplitHeads(attention.v(x), config_.heads)};
}

at::Tensor T5::RunAttention(const T5Attention& attention, const at::Tensor& x,
                            const Memory::Layer& seen, bool is_causal,
                            const at::Tensor& bias) const {
  return attention.o(Attend(SplitHeads(attention.q(x), config_.heads),
                            seen.keys, seen.values,
                            {.scale = 1.0,
                             .is_causal = is_causal,
                             .window = 0,
                             .softcap = 0,
                             .bias = bias}));
}

at::Tensor T5::RunMlp(const T5Layer& layer, const at::Tensor& x) const {
  const at::Tensor normed = layer.mlp_norm(x);
  if (!config_.is_gated) {
    return x + layer.down(config_.activation(layer.up(normed)));
  }
  return x +
         layer.down(config_.activation(layer.gate(normed)) * layer.up(normed));
}

Memory T5::RunEncoder(const at::Tensor& ids) const {
  const at::Tensor bias = PositionBias(encoder_, 0, ids.size(1), false);
  at::Tensor x = Embed(*embeddings_, ids);
  for (const T5Layer& layer : encoder_.layers) {
    const at::Tensor normed = layer.self.norm(x);
    x = x + RunAttention(layer.self, normed, KeysOf(layer.self, normed),
                         /*is_causal=*/false, bias);
    x = RunMlp(layer, x);
  }
  x = encoder_.final_norm(x);
  Memory memory;
  for (const T5Layer& layer : decoder_.layers) {
    memory.encoded.push_back(KeysOf(layer.cross, x));
  }
  memory.layers.resize(decoder_.layers.size());
  return memory;
}

at::Tensor T5::RunLayers(const at::Tensor& ids, Memory* memory) const {
  TORCH_CHECK(memory != nullptr, "the decoder needs what the encoder read");
  const at::Tensor bias =
      PositionBias(decoder_, memory->length, ids.size(1), true);
  at::Tensor x = Embed(*embeddings_, ids);
  for (size_t i = 0; i < decoder_.layers.size(); ++i) {
    const T5Layer& layer = decoder_.layers[i];
    const at::Tensor normed = layer.self.norm(x);
    const Memory::Layer added = KeysOf(layer.self, normed);
    memory->layers[i].Append(added.keys, added.values);
    x = x + RunAttention(layer.self, normed, memory->layers[i],
                         /*is_causal=*/true, bias);
    x = x + RunAttention(layer.cross, layer.cross.norm(x), memory->encoded[i],
                         /*is_causal=*/false, {});
    x = RunMlp(layer, x);
  }
  return decoder_.final_norm(x);
}

at::Tensor T5::RunHead(const at::Tensor& hidden) const {
  const double width = static_cast<double>(config_.hidden);
  const Linear head = {.weight = head_};
  return head(config_.scales_output ? hidden * (1 / std::sqrt(width)) : hidden);
}

// "relu", or "gated-" and the name of the gate's activation.
absl::Status ReadMlp(const std::string& kind, T5Config& out) {
  absl::string_view activation = kind;
  out.is_gated = absl::ConsumePrefix(&activation, "gated-");
  if (out.is_gated && activation == "gelu") activation = "gelu_new";
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("feed_forward_proj", activation));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeT5(absl::string_view,
                                              const ConfigReader& config,
                                              const ShapeMap& tensors) {
  ConfigReader reader = config;
  T5Config out;
  out.traits = ReadTraits(reader, std::numeric_limits<int64_t>::max() / 2);
  out.traits.has_encoder = true;
  out.traits.decoder_start_id = reader.TokenId(
      "decoder_start_token_id", reader.TokenId("pad_token_id", 0));
  out.hidden = reader.Size("d_model", 512);
  out.head_dim = reader.Size("d_kv", 64);
  out.inner = reader.Size("d_ff", 2048);
  out.encoder_layers = reader.Layers("num_layers", 6);
  out.decoder_layers = reader.Layers("num_decoder_layers", out.encoder_layers);
  out.heads = reader.Size("num_heads", 8);
  out.buckets = reader.Size("relative_attention_num_buckets", 32);
  out.max_distance = reader.Size("relative_attention_max_distance", 128);
  out.epsilon = reader.Positive("layer_norm_epsilon", out.epsilon);
  const bool is_tied = reader.Flag("tie_word_embeddings", true);
  out.scales_output = reader.Flag("scale_decoder_outputs", is_tied);
  out.has_head = tensors.contains(kHead) || !is_tied;
  if (out.buckets < 4 || out.max_distance <= out.buckets / 2) {
    reader.Fail("relative_attention_num_buckets",
                "at least 4, and its half below "
                "`relative_attention_max_distance`");
  }
  const std::string mlp = reader.Text("feed_forward_proj", "relu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  CAIRN_RETURN_IF_ERROR(ReadMlp(mlp, out));
  return std::make_unique<T5>(out);
}

}  // namespace cairn
