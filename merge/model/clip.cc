// CLIP: two towers, for images and texts, that end in one space.
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

// Before it was mended, the configuration named a wrong end-of-text token; the
// largest id of a text is the right one then.
constexpr int64_t kLegacyEndId = 2;

struct TowerConfig {
  int64_t hidden = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  double epsilon = 1e-5;
  Activation activation = nullptr;
};

struct ClipConfig {
  ImageShape image;
  int64_t patch = 0;
  TextLimits text;
  int64_t end_id = 0;
  int64_t width = 0;  // of the common space
  TowerConfig text_tower;
  TowerConfig image_tower;

  int64_t patches() const {
    return (image.height / patch) * (image.width / patch);
  }
};

// A stack of transformer layers.
class Tower {
 public:
  Tower(const ParameterScope& scope, const TowerConfig& config);
  at::Tensor operator()(at::Tensor x, bool is_causal) const;

 private:
  struct Layer {
    Linear q, k, v, attention_out;
    Linear up, down;
    LayerNorm attention_norm, mlp_norm;
  };

  const TowerConfig config_;
  std::vector<Layer> layers_;
};

Tower::Tower(const ParameterScope& scope, const TowerConfig& config)
    : config_(config) {
  const int64_t hidden = config.hidden, inner = config.inner;
  for (int64_t i = 0; i < config.layers; ++i) {
    const ParameterScope layer = scope.Under("encoder.layers", i);
    const auto linear = [&](const char* name, int64_t in, int64_t out) {
      return layer.MakeLinear(name, in, out, Bias::kOne);
    };
    layers_.push_back(
        {.q = linear("self_attn.q_proj", hidden, hidden),
         .k = linear("self_attn.k_proj", hidden, hidden),
         .v = linear("self_attn.v_proj", hidden, hidden),
         .attention_out = linear("self_attn.out_proj", hidden, hidden),
         .up = linear("mlp.fc1", hidden, inner),
         .down = linear("mlp.fc2", inner, hidden),
         .attention_norm =
             layer.MakeLayerNorm("layer_norm1", hidden, config.epsilon),
         .mlp_norm =
             layer.MakeLayerNorm("layer_norm2", hidden, config.epsilon)});
  }
}

at::Tensor Tower::operator()(at::Tensor x, bool is_causal) const {
  const int64_t heads = config_.heads;
  const double dim = static_cast<double>(config_.hidden / heads);
  for (const Layer& layer : layers_) {
    const at::Tensor normed = layer.attention_norm(x);
    x = x + layer.attention_out(
                Attend(SplitHeads(layer.q(normed), heads),
                       SplitHeads(layer.k(normed), heads),
                       SplitHeads(layer.v(normed), heads),
                       {.scale = 1 / std::sqrt(dim), .is_causal = is_causal}));
    x = x + layer.down(config_.activation(layer.up(layer.mlp_norm(x))));
  }
  return x;
}

class Clip final : public ImageTextModel {
 public:
  explicit Clip(const ClipConfig& config);

 private:
  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Clip>(config_);
  }
  at::Tensor RunText(const at::Tensor& ids) const override;
  at::Tensor RunImage(const at::Tensor& pixels) const override;
  const at::Tensor& log_scale() const override { return *log_scale_; }

  int64_t EndOf(const at::Tensor& ids) const;

  const ClipConfig config_;
  const at::Tensor* log_scale_;
  const at::Tensor* words_;
  const at::Tensor* word_positions_;
  Tower text_tower_;
  LayerNorm text_norm_;
  Linear text_projection_;
  const at::Tensor* class_token_;
  const at::Tensor* patches_;
  const at::Tensor* patch_positions_;
  LayerNorm image_pre_norm_;
  Tower image_tower_;
  LayerNorm image_norm_;
  Linear image_projection_;
};

Clip::Clip(const ClipConfig& config)
    : ImageTextModel("CLIPModel", config.image, config.text),
      config_(config),
      text_tower_(ParameterScope(table_, "text_model."), config.text_tower),
      image_tower_(ParameterScope(table_, "vision_model."),
                   config.image_tower) {
  const ParameterScope root(table_, "");
  log_scale_ = root.Tensor("logit_scale", {});
  const ParameterScope text = root.Under("text_model");
  const int64_t text_width = config.text_tower.hidden;
  const ParameterScope words = text.Under("embeddings");
  words_ = words.Tensor("token_embedding.weight",
                        {config.text.vocab_size, text_width});
  word_positions_ = words.Tensor("position_embedding.weight",
                                 {config.text.longest_input, text_width});
  text_norm_ = text.MakeLayerNorm("final_layer_norm", text_width,
                                  config.text_tower.epsilon);
  text_projection_ =
      root.MakeLinear("text_projection", text_width, config.width, Bias::kNone);
  const ParameterScope image = root.Under("vision_model");
  const int64_t image_width = config.image_tower.hidden;
  const ParameterScope patches = image.Under("embeddings");
  class_token_ = patches.Tensor("class_embedding", {image_width});
  patches_ = patches.Tensor(
      "patch_embedding.weight",
      {image_width, config.image.channels, config.patch, config.patch});
  patch_positions_ = patches.Tensor("position_embedding.weight",
                                    {config.patches() + 1, image_width});
  image_pre_norm_ = image.MakeLayerNorm("pre_layrnorm", image_width,
                                        config.image_tower.epsilon);
  image_norm_ = image.MakeLayerNorm("post_layernorm", image_width,
                                    config.image_tower.epsilon);
  image_projection_ = root.MakeLinear("visual_projection", image_width,
                                      config.width, Bias::kNone);
}

// The first end-of-text token; position 0 where there is none.
int64_t Clip::EndOf(const at::Tensor& ids) const {
  const at::Tensor marks = config_.end_id == kLegacyEndId
                               ? ids
                               : (ids == config_.end_id).to(at::kLong);
  return (marks == marks.max()).nonzero()[0].item<int64_t>();
}

at::Tensor Clip::RunText(const at::Tensor& ids) const {
  const at::Tensor x =
      Embed(*words_, ids) + word_positions_->narrow(0, 0, ids.size(0));
  const at::Tensor out =
      text_norm_(text_tower_(x.unsqueeze(0), /*is_causal=*/true));
  return text_projection_(out.narrow(1, EndOf(ids), 1)).flatten();
}

at::Tensor Clip::RunImage(const at::Tensor& pixels) const {
  const at::Tensor patches = PatchEmbeddings(pixels, *patches_, nullptr);
  const at::Tensor x =
      at::cat({class_token_->view({1, 1, -1}), patches}, 1) + *patch_positions_;
  const at::Tensor out = image_tower_(image_pre_norm_(x), /*is_causal=*/false);
  return image_projection_(image_norm_(out.narrow(1, 0, 1))).flatten();
}

absl::StatusOr<TowerConfig> ReadTower(ConfigReader& reader,
                                      const TowerConfig& defaults) {
  TowerConfig out;
  out.hidden = reader.Size("hidden_size", defaults.hidden);
  out.inner = reader.Size("intermediate_size", defaults.inner);
  out.layers = reader.Layers("num_hidden_layers", defaults.layers);
  out.heads = reader.Size("num_attention_heads", defaults.heads);
  out.epsilon = reader.Positive("layer_norm_eps", defaults.epsilon);
  CheckHeads(reader, "num_attention_heads", out.hidden, out.heads);
  const std::string activation = reader.Text("hidden_act", "quick_gelu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation("hidden_act", activation));
  return out;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeClip(absl::string_view,
                                                const ConfigReader& config,
                                                const ShapeMap&) {
  ConfigReader reader = config;
  std::optional<ConfigReader> text = reader.Object("text_config");
  std::optional<ConfigReader> image = reader.Object("vision_config");
  if (!text.has_value()) reader.Fail("text_config", "an object");
  if (!image.has_value()) reader.Fail("vision_config", "an object");
  CAIRN_RETURN_IF_ERROR(reader.status());
  ClipConfig out;
  out.width = reader.Size("projection_dim", 512);
  out.text = {.vocab_size = text->Size("vocab_size", 49408),
              .longest_input = text->Size("max_position_embeddings", 77)};
  out.end_id = text->TokenId("eos_token_id", 49407);
  out.image.channels = image->Size("num_channels", 3);
  out.image.height = out.image.width = image->Size("image_size", 224);
  out.patch = image->Size("patch_size", 32);
  if (out.patches() == 0) image->Fail("patch_size", "no larger than the image");
  CAIRN_ASSIGN_OR_RETURN(
      out.text_tower,
      ReadTower(*text,
                {.hidden = 512, .inner = 2048, .layers = 12, .heads = 8}));
  CAIRN_ASSIGN_OR_RETURN(
      out.image_tower,
      ReadTower(*image,
                {.hidden = 768, .inner = 3072, .layers = 12, .heads = 12}));
  return std::make_unique<Clip>(out);
}

}  // namespace cairn
