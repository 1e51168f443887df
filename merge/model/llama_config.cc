#include "merge/model/llama_config.h"

#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

using LayerKind = LlamaConfig::LayerKind;

// What transformers' configuration class assumes for keys that are absent.
struct Defaults {
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t head_dim = 0;  // 0: hidden size / heads
  bool ties_embeddings = false;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
};

const std::map<std::string, Defaults, std::less<>>& Family() {
  static const auto* const kFamily =
      new std::map<std::string, Defaults, std::less<>>{
          {"LlamaForCausalLM", {}},
          {"MistralForCausalLM",
           {.max_position_embeddings = 131072, .kv_heads = 8}},
          {"Qwen2ForCausalLM",
           {.max_position_embeddings = 32768, .kv_heads = 32}},
          {"Qwen3ForCausalLM",
           {.max_position_embeddings = 32768, .kv_heads = 32, .head_dim = 128}},
          {"Phi3ForCausalLM",
           {.max_position_embeddings = 4096, .rms_norm_eps = 1e-5}},
          {"SmolLM3ForCausalLM",
           {.max_position_embeddings = 32768,
            .kv_heads = 4,
            .ties_embeddings = true}},
          {"GemmaForCausalLM",
           {.max_position_embeddings = 8192,
            .kv_heads = 16,
            .head_dim = 256,
            .ties_embeddings = true,
            .activation_key = "hidden_act",
            .activation = "gelu_pytorch_tanh"}},
          {"Gemma2ForCausalLM",
           {.max_position_embeddings = 8192,
            .kv_heads = 4,
            .head_dim = 256,
            .ties_embeddings = true,
            .activation_key = "hidden_activation",
            .activation = "gelu_pytorch_tanh"}}};
  return *kFamily;
}

void ReadSizes(ConfigReader& config, const Defaults& defaults,
               LlamaConfig& out) {
  out.hidden_size = config.Size("hidden_size");
  out.intermediate_size = config.Size("intermediate_size");
  out.layers.resize(static_cast<size_t>(config.Layers("num_hidden_layers")));
  out.heads = config.Size("num_attention_heads");
  out.kv_heads =
      config.Size("num_key_value_heads",
                  defaults.kv_heads == 0 ? out.heads : defaults.kv_heads);
  out.head_dim = config.Size("head_dim", defaults.head_dim == 0
                                             ? out.hidden_size / out.heads
                                             : defaults.head_dim);
  out.max_position_embeddings =
      config.Size("max_position_embeddings", defaults.max_position_embeddings);
  out.rms_norm_eps = config.Positive("rms_norm_eps", defaults.rms_norm_eps);
  out.ties_embeddings =
      config.Flag("tie_word_embeddings", defaults.ties_embeddings);
  out.traits = ReadTraits(config, out.max_position_embeddings);
  out.attention_scale = 1 / std::sqrt(static_cast<double>(out.head_dim));
  if (out.heads % out.kv_heads != 0) {
    config.Fail(
        "num_attention_heads",
        absl::StrCat("a multiple of `num_key_value_heads` ", out.kv_heads));
  }
}

// Sets the window of the layers that `layer_types` calls sliding, or that
// `is_sliding` does where there is no such list.
void ReadWindows(ConfigReader& config, int64_t window,
                 bool (*is_sliding)(size_t layer, int64_t first), int64_t first,
                 LlamaConfig& out) {
  if (!config.Has("layer_types")) {
    for (size_t i = 0; i < out.layers.size(); ++i) {
      if (is_sliding(i, first)) out.layers[i].window = window;
    }
    return;
  }
  const std::vector<std::string> types = config.Texts("layer_types");
  for (size_t i = 0; i < out.layers.size(); ++i) {
    const std::string type = i < types.size() ? types[i] : "";
    if (type == "sliding_attention") {
      out.layers[i].window = window;
    } else if (type != "full_attention" || types.size() != out.layers.size()) {
      config.Fail("layer_types",
                  "full_attention or sliding_attention for every layer");
    }
  }
}

// An explicit null, unlike a missing key, means no window. A fall-back of 0 is
// no window either.
int64_t WindowOf(ConfigReader& config, int64_t fall_back) {
  if (config.Has("sliding_window")) return config.Size("sliding_window");
  return config.IsNull("sliding_window") ? 0 : fall_back;
}

// Qwen and SmolLM3 use their window only when told to.
void ReadOptionalWindows(ConfigReader& config, int64_t fall_back,
                         int64_t max_window_layers, LlamaConfig& out) {
  if (!config.Flag("use_sliding_window", false)) return;
  const int64_t window = WindowOf(config, fall_back);
  ReadWindows(
      config, window,
      [](size_t layer, int64_t first) {
        return static_cast<int64_t>(layer) >= first;
      },
      config.TokenId("max_window_layers", max_window_layers), out);
}

double OptionalCap(ConfigReader& config, const char* key, double fall_back) {
  return config.IsNull(key) ? 0.0 : config.Positive(key, fall_back);
}

void ReadGemma2(ConfigReader& config, LlamaConfig& out) {
  out.has_post_norms = true;
  out.attention_scale =
      1 / std::sqrt(config.Positive("query_pre_attn_scalar", 256.0));
  out.attention_softcap = OptionalCap(config, "attn_logit_softcapping", 50.0);
  out.final_softcap = OptionalCap(config, "final_logit_softcapping", 30.0);
  ReadWindows(
      config, WindowOf(config, 4096),
      [](size_t layer, int64_t) { return layer % 2 == 0; }, 0, out);
}

void ReadSmolLm3(ConfigReader& config, LlamaConfig& out) {
  out.has_qkv_bias = out.has_output_bias = config.Flag("attention_bias", false);
  out.has_mlp_bias = config.Flag("mlp_bias", false);
  const size_t interval =
      static_cast<size_t>(config.Layers("no_rope_layer_interval", 4));
  std::vector<double> has_rope;
  if (config.Has("no_rope_layers")) {
    has_rope = config.Numbers("no_rope_layers");
    if (has_rope.size() != out.layers.size()) {
      config.Fail("no_rope_layers", "0 or 1 for every layer");
    }
  }
  for (size_t i = 0; i < out.layers.size(); ++i) {
    out.layers[i].has_rope =
        i < has_rope.size() ? has_rope[i] != 0 : (i + 1) % interval != 0;
  }
  if (config.Flag("use_sliding_window", false)) {
    ReadWindows(
        config, WindowOf(config, 0), [](size_t, int64_t) { return false; }, 0,
        out);
  }
}

// What sets an architecture apart from the others.
void ReadSpecialities(ConfigReader& config, LlamaConfig& out) {
  const std::string& name = out.architecture;
  const auto every_layer = [](size_t, int64_t) { return true; };
  if (name == "LlamaForCausalLM") {
    out.has_qkv_bias = out.has_output_bias =
        config.Flag("attention_bias", false);
    out.has_mlp_bias = config.Flag("mlp_bias", false);
  } else if (name == "MistralForCausalLM") {
    ReadWindows(config, WindowOf(config, 4096), every_layer, 0, out);
  } else if (name == "Qwen2ForCausalLM") {
    out.has_qkv_bias = true;
    ReadOptionalWindows(config, 4096, 28, out);
  } else if (name == "Qwen3ForCausalLM") {
    out.has_qkv_bias = out.has_output_bias =
        config.Flag("attention_bias", false);
    out.has_query_key_norms = true;
    ReadOptionalWindows(config, 4096, 28, out);
  } else if (name == "Phi3ForCausalLM") {
    out.has_fused_projections = true;
    ReadWindows(config, WindowOf(config, 0), every_layer, 0, out);
  } else if (name == "SmolLM3ForCausalLM") {
    ReadSmolLm3(config, out);
  } else {
    out.is_gemma = true;
    out.has_qkv_bias = out.has_output_bias =
        config.Flag("attention_bias", false);
    if (name == "Gemma2ForCausalLM") ReadGemma2(config, out);
  }
}

}  // namespace

bool LlamaConfig::Knows(absl::string_view architecture) {
  return Family().contains(architecture);
}

std::vector<std::string> LlamaConfig::Architectures() {
  std::vector<std::string> names;
  for (const auto& [name, defaults] : Family()) names.push_back(name);
  return names;
}

absl::StatusOr<LlamaConfig> LlamaConfig::Parse(absl::string_view architecture,
                                               ConfigReader config) {
  const Defaults& defaults = Family().find(architecture)->second;
  LlamaConfig out;
  out.architecture = std::string(architecture);
  ReadSizes(config, defaults, out);
  ReadSpecialities(config, out);
  const std::string activation =
      config.Text(defaults.activation_key, defaults.activation);
  CAIRN_RETURN_IF_ERROR(config.status());
  CAIRN_ASSIGN_OR_RETURN(out.activation,
                         FindActivation(defaults.activation_key, activation));
  CAIRN_ASSIGN_OR_RETURN(
      out.rope, RopeConfig::Read(config, "rope_theta", nullptr, 1.0,
                                 out.head_dim, out.max_position_embeddings));
  out.traits.limits.longest_input =
      out.rope.LongestInput(out.max_position_embeddings);
  out.traits.is_incremental = !out.rope.depends_on_length();
  return out;
}

}  // namespace cairn
