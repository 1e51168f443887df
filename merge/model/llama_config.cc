#include "merge/model/llama_config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

constexpr int64_t kDepthMax = 32;
// Bounds that no sound model passes; products of two stay far from overflow.
constexpr int64_t kSizeMax = int64_t{1} << 28;
constexpr int64_t kLayersMax = 10'000;
constexpr char kHead[] = "lm_head.weight";

absl::Status Malformed(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat("config.json: ", message),
                       {{"file", "config.json"}});
}

absl::Status Unsupported(absl::string_view message) {
  return ReasonedError(absl::StatusCode::kUnimplemented, "UNSUPPORTED",
                       absl::StrCat("config.json: ", message),
                       {{"file", "config.json"}});
}

absl::StatusOr<Json> ParseObject(absl::string_view text) {
  bool is_too_deep = false;
  const auto watch_depth = [&](int depth, Json::parse_event_t, Json&) {
    is_too_deep = is_too_deep || depth > kDepthMax;
    return !is_too_deep;
  };
  Json json = Json::parse(text.begin(), text.end(), watch_depth,
                          /*allow_exceptions=*/false);
  if (is_too_deep) return Malformed("nested too deeply");
  if (!json.is_object()) {
    return Malformed(
        "no JSON object; it should be the configuration that transformers "
        "writes");
  }
  return json;
}

// Reads keys of one object; the first fault is kept and later reads give the
// fall-back.
class Reader {
 public:
  explicit Reader(const Json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  const absl::Status& status() const { return status_; }

  // Null when the key is absent or null.
  const Json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  int64_t Size(const char* key, std::optional<int64_t> fall_back,
               int64_t max = kSizeMax) {
    const Json* value = Find(key);
    if (value == nullptr) return fall_back ? *fall_back : Missing(key);
    if (!value->is_number_integer() || value->get<int64_t>() < 1 ||
        value->get<int64_t>() > max) {
      return Fail(key, value, absl::StrCat("an integer from 1 to ", max));
    }
    return value->get<int64_t>();
  }

  double Positive(const char* key, std::optional<double> fall_back) {
    const Json* value = Find(key);
    if (value == nullptr) {
      return fall_back ? *fall_back : static_cast<double>(Missing(key));
    }
    const double number = value->is_number() ? value->get<double>() : 0;
    if (!(number > 0) || !std::isfinite(number)) {
      return static_cast<double>(Fail(key, value, "a positive number"));
    }
    return number;
  }

  bool Flag(const char* key, bool fall_back) {
    const Json* value = Find(key);
    if (value == nullptr) return fall_back;
    if (!value->is_boolean()) Fail(key, value, "true or false");
    return value->is_boolean() && value->get<bool>();
  }

  std::string Text(const char* key, const std::string& fall_back) {
    const Json* value = Find(key);
    if (value == nullptr) return fall_back;
    if (!value->is_string()) Fail(key, value, "a string");
    return value->is_string() ? value->get<std::string>() : fall_back;
  }

 private:
  int64_t Missing(const char* key) {
    if (status_.ok()) {
      status_ = Malformed(absl::StrCat("`", prefix_, key, "` is missing"));
    }
    return 1;
  }

  int64_t Fail(const char* key, const Json* value, absl::string_view right) {
    if (status_.ok()) {
      status_ = Malformed(absl::StrCat(
          "`", prefix_, key, "` is ",
          value->dump(-1, ' ', false, Json::error_handler_t::replace)
              .substr(0, 80),
          "; it should be ", right));
    }
    return 1;
  }

  const Json& object_;
  const std::string prefix_;
  absl::Status status_;
};

absl::Status ReadRopeSettings(const std::string& kind, Reader& reader,
                              int64_t longest, RopeConfig& rope) {
  if (kind == "default") {
    rope.kind = RopeConfig::Kind::kDefault;
  } else if (kind == "linear") {
    rope.kind = RopeConfig::Kind::kLinear;
    rope.factor = reader.Positive("factor", std::nullopt);
  } else if (kind == "dynamic") {
    rope.kind = RopeConfig::Kind::kDynamic;
    rope.factor = reader.Positive("factor", std::nullopt);
  } else if (kind == "llama3") {
    rope.kind = RopeConfig::Kind::kLlama3;
    rope.factor = reader.Positive("factor", std::nullopt);
    rope.low_freq_factor = reader.Positive("low_freq_factor", std::nullopt);
    rope.high_freq_factor = reader.Positive("high_freq_factor", std::nullopt);
    rope.original_length =
        reader.Size("original_max_position_embeddings", longest);
  } else if (kind == "yarn") {
    rope.kind = RopeConfig::Kind::kYarn;
    rope.original_length =
        reader.Size("original_max_position_embeddings", longest);
    rope.factor = reader.Positive(
        "factor", static_cast<double>(longest) /
                      static_cast<double>(rope.original_length));
    rope.beta_fast = reader.Positive("beta_fast", 32.0);
    rope.beta_slow = reader.Positive("beta_slow", 1.0);
    if (reader.Find("attention_factor") != nullptr) {
      rope.attention_factor = reader.Positive("attention_factor", 1.0);
    }
    rope.mscale = reader.Positive("mscale", 0.0);
    rope.mscale_all_dim = reader.Positive("mscale_all_dim", 0.0);
    rope.truncate = reader.Flag("truncate", true);
  } else {
    return Unsupported(absl::StrCat(
        "rope kind `", kind,
        "` is not supported; default, linear, dynamic, yarn and llama3 are"));
  }
  return reader.status();
}

absl::StatusOr<RopeConfig> ReadRope(Reader& config, int64_t longest) {
  RopeConfig rope;
  rope.theta = config.Positive("rope_theta", rope.theta);
  const char* const key =
      config.Find("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json* settings = config.Find(key);
  if (settings == nullptr) return rope;
  if (!settings->is_object()) {
    return Malformed(absl::StrCat("`", key, "` should be an object"));
  }
  Reader reader(*settings, absl::StrCat(key, "."));
  rope.theta = reader.Positive("rope_theta", rope.theta);
  if (reader.Find("partial_rotary_factor") != nullptr &&
      reader.Positive("partial_rotary_factor", 1.0) != 1.0) {
    return Unsupported(absl::StrCat("`", key,
                                    ".partial_rotary_factor` other than 1 is "
                                    "not supported"));
  }
  const std::string kind =
      reader.Text("rope_type", reader.Text("type", "default"));
  CAIRN_RETURN_IF_ERROR(ReadRopeSettings(kind, reader, longest, rope));
  return rope;
}

// bos_token_id, else eos_token_id; each an id, a list of ids or null.
std::vector<int64_t> ReadPrefix(const Reader& config) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    const Json* value = config.Find(key);
    if (value != nullptr && value->is_array() && !value->empty()) {
      value = &value->front();
    }
    if (value != nullptr && value->is_number_integer() &&
        value->get<int64_t>() >= 0) {
      return {value->get<int64_t>()};
    }
  }
  return {};
}

absl::Status CheckShape(const LlamaConfig& config) {
  if (config.heads % config.kv_heads != 0) {
    return Malformed(absl::StrCat(
        "`num_attention_heads` ", config.heads,
        " is not a multiple of `num_key_value_heads` ", config.kv_heads));
  }
  if (config.head_dim < 2 || config.head_dim % 2 != 0) {
    return Malformed(absl::StrCat("`head_dim` ", config.head_dim,
                                  " should be a positive even number"));
  }
  if (config.rope.kind == RopeConfig::Kind::kDynamic && config.head_dim < 4) {
    return Malformed("`head_dim` should be at least 4 for dynamic rope");
  }
  return absl::OkStatus();
}

absl::Status UnfitTensor(absl::string_view reason, absl::string_view message,
                         absl::string_view tensor) {
  return ReasonedError(absl::StatusCode::kDataLoss, reason, message,
                       {{"tensor", std::string(tensor)}});
}

}  // namespace

absl::StatusOr<LlamaConfig> LlamaConfig::Parse(absl::string_view config_json) {
  CAIRN_ASSIGN_OR_RETURN(const Json json, ParseObject(config_json));
  Reader reader(json);
  LlamaConfig config;
  config.vocab_size = reader.Size("vocab_size", std::nullopt);
  config.hidden_size = reader.Size("hidden_size", std::nullopt);
  config.intermediate_size = reader.Size("intermediate_size", std::nullopt);
  config.layers = reader.Size("num_hidden_layers", std::nullopt, kLayersMax);
  config.heads = reader.Size("num_attention_heads", std::nullopt);
  config.kv_heads = reader.Size("num_key_value_heads", config.heads);
  config.head_dim = reader.Size("head_dim", config.hidden_size / config.heads);
  config.max_position_embeddings =
      reader.Size("max_position_embeddings", config.max_position_embeddings);
  config.rms_norm_eps = reader.Positive("rms_norm_eps", config.rms_norm_eps);
  config.has_attention_bias = reader.Flag("attention_bias", false);
  config.has_mlp_bias = reader.Flag("mlp_bias", false);
  config.ties_embeddings = reader.Flag("tie_word_embeddings", false);
  config.prefix_ids = ReadPrefix(reader);
  const std::string activation = reader.Text("hidden_act", "silu");
  CAIRN_RETURN_IF_ERROR(reader.status());
  if (activation != "silu" && activation != "swish") {
    return Unsupported(absl::StrCat("`hidden_act` `", activation,
                                    "` is not supported; silu is"));
  }
  CAIRN_ASSIGN_OR_RETURN(config.rope,
                         ReadRope(reader, config.max_position_embeddings));
  CAIRN_RETURN_IF_ERROR(reader.status());
  CAIRN_RETURN_IF_ERROR(CheckShape(config));
  return config;
}

int64_t LlamaConfig::LongestInput() const {
  if (rope.kind != RopeConfig::Kind::kDynamic) return max_position_embeddings;
  return static_cast<int64_t>(static_cast<double>(max_position_embeddings) *
                              rope.factor);
}

std::vector<ParameterSpec> LlamaConfig::Parameters(bool has_head) const {
  std::vector<ParameterSpec> out;
  const auto add_linear = [&](const std::string& name, int64_t rows,
                              int64_t columns, bool has_bias) {
    out.push_back({absl::StrCat(name, ".weight"), {rows, columns}});
    if (has_bias) out.push_back({absl::StrCat(name, ".bias"), {rows}});
  };
  const int64_t query = heads * head_dim;
  const int64_t key = kv_heads * head_dim;
  out.push_back({"model.embed_tokens.weight", {vocab_size, hidden_size}});
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    const std::string attention = layer + "self_attn.";
    const std::string mlp = layer + "mlp.";
    out.push_back({layer + "input_layernorm.weight", {hidden_size}});
    add_linear(attention + "q_proj", query, hidden_size, has_attention_bias);
    add_linear(attention + "k_proj", key, hidden_size, has_attention_bias);
    add_linear(attention + "v_proj", key, hidden_size, has_attention_bias);
    add_linear(attention + "o_proj", hidden_size, query, has_attention_bias);
    out.push_back({layer + "post_attention_layernorm.weight", {hidden_size}});
    add_linear(mlp + "gate_proj", intermediate_size, hidden_size, has_mlp_bias);
    add_linear(mlp + "up_proj", intermediate_size, hidden_size, has_mlp_bias);
    add_linear(mlp + "down_proj", hidden_size, intermediate_size, has_mlp_bias);
  }
  out.push_back({"model.norm.weight", {hidden_size}});
  if (has_head) out.push_back({"lm_head.weight", {vocab_size, hidden_size}});
  return out;
}

absl::Status LlamaConfig::CheckTensors(const ShapeMap& tensors) const {
  const bool has_head = tensors.contains(kHead) || !ties_embeddings;
  ShapeMap rest = tensors;
  for (const ParameterSpec& spec : Parameters(has_head)) {
    const auto it = rest.find(spec.name);
    if (it == rest.end()) {
      return UnfitTensor("UNKNOWN_TENSOR",
                         absl::StrCat("tensor ", spec.name, " of shape ",
                                      ShapeText(spec.shape), " is missing"),
                         spec.name);
    }
    if (it->second != spec.shape) {
      return UnfitTensor(
          "SHAPE_MISMATCH",
          absl::StrCat("tensor ", spec.name, " has shape ",
                       ShapeText(it->second), "; by config.json it should be ",
                       ShapeText(spec.shape)),
          spec.name);
    }
    rest.erase(it);
  }
  if (rest.empty()) return absl::OkStatus();
  const std::string& extra = rest.begin()->first;
  return UnfitTensor("UNKNOWN_TENSOR",
                     absl::StrCat("tensor ", extra,
                                  " is not part of the model that config.json "
                                  "describes"),
                     extra);
}

absl::StatusOr<std::string> ArchitectureOf(absl::string_view config_json) {
  CAIRN_ASSIGN_OR_RETURN(const Json json, ParseObject(config_json));
  const auto named = json.find("architectures");
  if (named != json.end() && named->is_array() && !named->empty() &&
      named->front().is_string()) {
    return named->front().get<std::string>();
  }
  const auto type = json.find("model_type");
  if (type != json.end() && type->is_string()) {
    const std::string name = type->get<std::string>();
    return name == "llama" ? "LlamaForCausalLM" : name;
  }
  return Malformed(
      "neither `architectures` nor `model_type` says what the model is");
}

}  // namespace cairn
