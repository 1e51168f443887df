// ViT with a head that classifies images.
#include <ATen/ATen.h>

#include <cmath>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

// What the modules of a layer are called.
struct LayerNames {
  const char* layers;
  const char* q;
  const char* k;
  const char* v;
  const char* attention_out;
  const char* up;
  const char* down;
};

constexpr LayerNames kNames = {"encoder.layer",
                               "attention.attention.query",
                               "attention.attention.key",
                               "attention.attention.value",
                               "attention.output.dense",
                               "intermediate.dense",
                               "output.dense"};
// In files that were written with the names of memory in transformers 5.
constexpr LayerNames kLaterNames = {"layers",           "attention.q_proj",
                                    "attention.k_proj", "attention.v_proj",
                                    "attention.o_proj", "mlp.fc1",
                                    "mlp.fc2"};

struct VitConfig {
  ImageShape image;
  int64_t labels = 0;
  std::string prefix;
  LayerNames names = kNames;
  int64_t patch_height = 0;
  int64_t patch_width = 0;
  int64_t hidden = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  double epsilon = 1e-12;
  Bias qkv_bias = Bias::kOne;
  Activation activation = nullptr;

  int64_t patches() const {
    return (image.height / patch_height) * (image.width / patch_width);
  }
};

class Vit final : public ImageClassifier {
 public:
  explicit Vit(const VitConfig& config);

 private:
  struct Layer {
    Linear q, k, v, attention_out;
    Linear up, down;
    LayerNorm attention_norm, mlp_norm;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Vit>(config_);
  }
  at::Tensor Run(const at::Tensor& pixels) const override;
  at::Tensor RunAttention(const Layer& layer, const at::Tensor& x) const;

  const VitConfig config_;
  const at::Tensor* class_token_;
  const at::Tensor* positions_;
  Linear patches_;  // the weight is a convolution's
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  Linear classifier_;
};

Vit::Vit(const VitConfig& config)
    : ImageClassifier("ViTForImageClassification", config.image, config.labels),
      config_(config) {
  const int64_t hidden = config.hidden, inner = config.inner;
  const ParameterScope root(table_, ""), body(table_, config.prefix);
  const ParameterScope embeddings = body.Under("embeddings");
  class_token_ = embeddings.Tensor("cls_token", {1, 1, hidden});
  positions_ = embeddings.Tensor("position_embeddings",
                                 {1, config.patches() + 1, hidden});
  const ParameterScope projection =
      embeddings.Under("patch_embeddings.projection");
  patches_.weight = projection.Tensor(
      "weight",
      {hidden, config.image.channels, config.patch_height, config.patch_width});
  patches_.bias = projection.Tensor("bias", {hidden});
  for (int64_t i = 0; i < config.layers; ++i) {
    const ParameterScope scope = body.Under(config.names.layers, i);
    const auto linear = [&](const char* name, int64_t in, int64_t out,
                            Bias bias) {
      return scope.MakeLinear(name, in, out, bias);
    };
    const LayerNames& names = config.names;
    layers_.push_back({.q = linear(names.q, hidden, hidden, config.qkv_bias),
                       .k = linear(names.k, hidden, hidden, config.qkv_bias),
                       .v = linear(names.v, hidden, hidden, config.qkv_bias),
                       .attention_out = linear(names.attention_out, hidden,
                                               hidden, Bias::kOne),
                       .up = linear(names.up, hidden, inner, Bias::kOne),
                       .down = linear(names.down, inner, hidden, Bias::kOne),
                       .attention_norm = scope.MakeLayerNorm(
                           "layernorm_before", hidden, config.epsilon),
                       .mlp_norm = scope.MakeLayerNorm(
                           "layernorm_after", hidden, config.epsilon)});
  }
  final_norm_ = body.MakeLayerNorm("layernorm", hidden, config.epsilon);
  classifier_ =
      root.MakeLinear("classifier", hidden, config.labels, Bias::kOne);
}

at::Tensor Vit::RunAttention(const Layer& layer, const at::Tensor& x) const {
  const int64_t heads = config_.heads;
  const double dim = static_cast<double>(config_.hidden / heads);
  return layer.attention_out(
      Attend(SplitHeads(layer.q(x), heads), SplitHeads(layer.k(x), heads),
             SplitHeads(layer.v(x), heads),
             {.scale = 1 / std::sqrt(dim), .is_causal = false}));
}

at::Tensor Vit::Run(const at::Tensor& pixels) const {
  const at::Tensor patches =
      PatchEmbeddings(pixels, *patches_.weight, patches_.bias);
  at::Tensor x = at::cat({*class_token_, patches}, 1) + *positions_;
  for (const Layer& layer : layers_) {
    x = x + RunAttention(layer, layer.attention_norm(x));
    x = x + layer.down(config_.activation(layer.up(layer.mlp_norm(x))));
  }
  return classifier_(final_norm_(x.narrow(1, 0, 1))).flatten();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeVit(absl::string_view,
                                               const ConfigReader& config,
                                               const ShapeMap& tensors) {
  ConfigReader reader = config;
  VitConfig out;
  out.prefix = PrefixInUse(tensors, "vit.");
  const auto first = tensors.lower_bound(out.prefix + "layers.");
  if (first != tensors.end() &&
      absl::StartsWith(first->first, out.prefix + "layers.")) {
    out.names = kLaterNames;
  }
  out.labels = ReadLabels(reader);
  out.image.channels = reader.Size("num_channels", 3);
  std::tie(out.image.height, out.image.width) =
      ReadExtent(reader, "image_size", 224);
  std::tie(out.patch_height, out.patch_width) =
      ReadExtent(reader, "patch_size", 16);
  out.hidden = reader.Size("hidden_size", 768);
  out.inner = reader.Size("intermediate_size", 3072);
  out.layers = reader.Layers("num_hidden_layers", 12);
  out.heads = reader.Size("num_attention_heads", 12);
  out.epsilon = reader.Positive("layer_norm_eps", out.epsilon);
  out.qkv_bias = reader.Flag("qkv_bias", true) ? Bias::kOne : Bias::kNone;
  CheckHeads(reader, "num_attention_heads", out.hidden, out.heads);
  if (out.patches() == 0) reader.Fail("patch_size", "no larger than the image");
  const std::string activation = reader.Text("hidden_act", "gelu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("hidden_act", activation));
  return std::make_unique<Vit>(out);
}

}  // namespace cairn
