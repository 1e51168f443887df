// BERT, RoBERTa and DistilBERT with a head that classifies texts.
#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "merge/model/attention.h"
#include "merge/model/families.h"
#include "merge/model/layers.h"

namespace cairn {
namespace {

using Bias = ParameterScope::Bias;

enum class BertKind { kBert, kRoberta, kDistilBert };

struct BertConfig {
  std::string architecture;
  BertKind kind = BertKind::kBert;
  TextClassifier::Traits traits;
  std::string prefix;
  int64_t hidden = 0;
  int64_t inner = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t positions = 0;
  int64_t padding_id = 0;
  double epsilon = 1e-12;
  Activation activation = nullptr;
};

// How the three call the parts of a layer.
struct LayerNames {
  const char *layers, *query, *key, *value, *attention_out, *attention_norm;
  const char *up, *down, *mlp_norm;
};

constexpr LayerNames kBertNames = {
    "encoder.layer",          "attention.self.query",
    "attention.self.key",     "attention.self.value",
    "attention.output.dense", "attention.output.LayerNorm",
    "intermediate.dense",     "output.dense",
    "output.LayerNorm"};
constexpr LayerNames kDistilBertNames = {
    "transformer.layer", "attention.q_lin",   "attention.k_lin",
    "attention.v_lin",   "attention.out_lin", "sa_layer_norm",
    "ffn.lin1",          "ffn.lin2",          "output_layer_norm"};

class Bert final : public TextClassifier {
 public:
  explicit Bert(const BertConfig& config);

 private:
  struct Layer {
    Linear q, k, v, attention_out;
    LayerNorm attention_norm;
    Linear up, down;
    LayerNorm mlp_norm;
  };

  std::unique_ptr<Model> MakeEmpty() const override {
    return std::make_unique<Bert>(config_);
  }
  at::Tensor Run(const ClassifierInput& input) const override;

  Layer MakeLayer(const ParameterScope& scope, const LayerNames& names) const;
  void MakeHead(const ParameterScope& body);
  at::Tensor Positions(const at::Tensor& ids) const;
  at::Tensor EmbedTokens(const ClassifierInput& input) const;
  at::Tensor RunLayer(const Layer& layer, const at::Tensor& x,
                      const at::Tensor& mask) const;
  at::Tensor RunHead(const at::Tensor& first) const;

  const BertConfig config_;
  const at::Tensor* words_;
  const at::Tensor* positions_;
  const at::Tensor* types_ = nullptr;  // DistilBERT has none
  LayerNorm embedding_norm_;
  std::vector<Layer> layers_;
  Linear pooler_, classifier_;
};

Bert::Bert(const BertConfig& config)
    : TextClassifier(config.architecture, config.traits), config_(config) {
  const ParameterScope body(table_, config.prefix);
  const ParameterScope embeddings = body.Under("embeddings");
  const int64_t hidden = config.hidden;
  words_ = embeddings.Tensor("word_embeddings.weight",
                             {config.traits.limits.vocab_size, hidden});
  positions_ = embeddings.Tensor("position_embeddings.weight",
                                 {config.positions, hidden});
  if (config.traits.token_types > 0) {
    types_ = embeddings.Tensor("token_type_embeddings.weight",
                               {config.traits.token_types, hidden});
  }
  embedding_norm_ =
      embeddings.MakeLayerNorm("LayerNorm", hidden, config.epsilon);
  const LayerNames& names =
      config.kind == BertKind::kDistilBert ? kDistilBertNames : kBertNames;
  for (int64_t i = 0; i < config.layers; ++i) {
    layers_.push_back(MakeLayer(body.Under(names.layers, i), names));
  }
  MakeHead(body);
}

Bert::Layer Bert::MakeLayer(const ParameterScope& scope,
                            const LayerNames& names) const {
  const int64_t hidden = config_.hidden, inner = config_.inner;
  const auto linear = [&](const char* name, int64_t in, int64_t out) {
    return scope.MakeLinear(name, in, out, Bias::kOne);
  };
  const auto norm = [&](const char* name) {
    return scope.MakeLayerNorm(name, hidden, config_.epsilon);
  };
  return {.q = linear(names.query, hidden, hidden),
          .k = linear(names.key, hidden, hidden),
          .v = linear(names.value, hidden, hidden),
          .attention_out = linear(names.attention_out, hidden, hidden),
          .attention_norm = norm(names.attention_norm),
          .up = linear(names.up, hidden, inner),
          .down = linear(names.down, inner, hidden),
          .mlp_norm = norm(names.mlp_norm)};
}

void Bert::MakeHead(const ParameterScope& body) {
  const ParameterScope root(table_, "");
  const int64_t hidden = config_.hidden, labels = config_.traits.labels;
  if (config_.kind == BertKind::kRoberta) {
    const ParameterScope head = root.Under("classifier");
    pooler_ = head.MakeLinear("dense", hidden, hidden, Bias::kOne);
    classifier_ = head.MakeLinear("out_proj", hidden, labels, Bias::kOne);
    return;
  }
  pooler_ = config_.kind == BertKind::kBert
                ? body.MakeLinear("pooler.dense", hidden, hidden, Bias::kOne)
                : root.MakeLinear("pre_classifier", hidden, hidden, Bias::kOne);
  classifier_ = root.MakeLinear("classifier", hidden, labels, Bias::kOne);
}

// RoBERTa counts from its padding id on and passes over padding.
at::Tensor Bert::Positions(const at::Tensor& ids) const {
  if (config_.kind != BertKind::kRoberta) {
    return at::arange(ids.size(0), ids.options());
  }
  const at::Tensor is_text = (ids != config_.padding_id).to(at::kLong);
  return is_text.cumsum(0) * is_text + config_.padding_id;
}

at::Tensor Bert::EmbedTokens(const ClassifierInput& input) const {
  const at::Tensor ids = input.ids.to(device());
  at::Tensor x = Embed(*words_, ids);
  if (types_ != nullptr) {
    const at::Tensor types =
        input.types.defined() ? input.types.to(device()) : at::zeros_like(ids);
    x = x + Embed(*types_, types);
  }
  x = x + Embed(*positions_, Positions(ids));
  return embedding_norm_(x).unsqueeze(0);
}

at::Tensor Bert::RunLayer(const Layer& layer, const at::Tensor& x,
                          const at::Tensor& mask) const {
  const int64_t heads = config_.heads;
  const double dim = static_cast<double>(config_.hidden / heads);
  const at::Tensor attended =
      Attend(SplitHeads(layer.q(x), heads), SplitHeads(layer.k(x), heads),
             SplitHeads(layer.v(x), heads),
             {.scale = 1 / std::sqrt(dim),
              .is_causal = false,
              .window = 0,
              .softcap = 0,
              .bias = mask});
  const at::Tensor middle =
      layer.attention_norm(layer.attention_out(attended) + x);
  return layer.mlp_norm(layer.down(config_.activation(layer.up(middle))) +
                        middle);
}

at::Tensor Bert::RunHead(const at::Tensor& first) const {
  const at::Tensor pooled = pooler_(first);
  return classifier_(config_.kind == BertKind::kDistilBert ? at::relu(pooled)
                                                           : at::tanh(pooled));
}

at::Tensor Bert::Run(const ClassifierInput& input) const {
  at::Tensor mask;
  if (input.mask.defined()) {
    mask = at::zeros({1, 1, input.mask.size(0)},
                     at::device(device()).dtype(at::kFloat));
    mask = mask.masked_fill(input.mask.to(device()) == 0,
                            -std::numeric_limits<double>::infinity());
  }
  at::Tensor x = EmbedTokens(input);
  for (const Layer& layer : layers_) x = RunLayer(layer, x, mask);
  return RunHead(x.narrow(1, 0, 1)).flatten();
}

BertKind KindOf(absl::string_view architecture) {
  if (architecture == "RobertaForSequenceClassification") {
    return BertKind::kRoberta;
  }
  return architecture == "DistilBertForSequenceClassification"
             ? BertKind::kDistilBert
             : BertKind::kBert;
}

void ReadSizes(ConfigReader& reader, BertConfig& out) {
  const bool is_distilled = out.kind == BertKind::kDistilBert;
  const bool is_roberta = out.kind == BertKind::kRoberta;
  out.hidden = reader.Size(is_distilled ? "dim" : "hidden_size", 768);
  out.inner =
      reader.Size(is_distilled ? "hidden_dim" : "intermediate_size", 3072);
  out.layers =
      reader.Layers(is_distilled ? "n_layers" : "num_hidden_layers", 12);
  out.heads = reader.Size(is_distilled ? "n_heads" : "num_attention_heads", 12);
  out.positions = reader.Size("max_position_embeddings", 512);
  out.padding_id = reader.TokenId("pad_token_id", is_roberta ? 1 : 0);
  if (!is_distilled) {
    out.epsilon = reader.Positive("layer_norm_eps", out.epsilon);
    out.traits.token_types = reader.Size("type_vocab_size", 2);
  }
  out.traits.limits = {
      .vocab_size = reader.Size("vocab_size"),
      .longest_input = out.positions - (is_roberta ? out.padding_id + 1 : 0)};
  out.traits.labels = ReadLabels(reader);
  if (out.traits.limits.longest_input < 1) {
    reader.Fail("max_position_embeddings", "more than `pad_token_id` + 1");
  }
  CheckHeads(reader, is_distilled ? "n_heads" : "num_attention_heads",
             out.hidden, out.heads);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeBert(absl::string_view architecture,
                                                const ConfigReader& config,
                                                const ShapeMap& tensors) {
  ConfigReader reader = config;
  BertConfig out;
  out.architecture = std::string(architecture);
  out.kind = KindOf(architecture);
  const char* const prefix = out.kind == BertKind::kBert      ? "bert."
                             : out.kind == BertKind::kRoberta ? "roberta."
                                                              : "distilbert.";
  out.prefix = PrefixInUse(tensors, prefix);
  ReadSizes(reader, out);
  const char* const activation_key =
      out.kind == BertKind::kDistilBert ? "activation" : "hidden_act";
  const std::string activation = reader.Text(activation_key, "gelu");
  const std::string positions =
      reader.Text("position_embedding_type", "absolute");
  const bool is_decoder = reader.Flag("is_decoder", false);
  CAIRN_RETURN_IF_ERROR(reader.status());
  if (positions != "absolute" || is_decoder) {
    return UnsupportedConfig(
        "only encoders with absolute positions are supported");
  }
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation(activation_key, activation));
  return std::make_unique<Bert>(out);
}

}  // namespace cairn
