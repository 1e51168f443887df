#include "merge/model/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/base/status_util.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

absl::StatusOr<LlamaConfig> Parse(
    const std::string& json,
    const std::string& architecture = "LlamaForCausalLM") {
  absl::StatusOr<ConfigReader> reader = ConfigReader::Parse(json);
  if (!reader.ok()) return reader.status();
  return LlamaConfig::Parse(architecture, *reader);
}

using ::cairn::testing::TinyConfig;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LlamaConfigTest, FillsInTheDefaultsOfTransformers) {
  absl::StatusOr<LlamaConfig> config = Parse(
      R"({"vocab_size": 9, "hidden_size": 32, "intermediate_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 4})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->max_position_embeddings, 2048);
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_FALSE(config->ties_embeddings);
  EXPECT_TRUE(config->traits.prefix_ids.empty());
}

TEST(LlamaConfigTest, PrefixIsTheFirstTokenOfTextElseTheLast) {
  EXPECT_THAT(Parse(TinyConfig())->traits.prefix_ids, ElementsAre(1));
  EXPECT_THAT(Parse(TinyConfig(R"("bos_token_id": null)"))->traits.prefix_ids,
              ElementsAre(2));
}

TEST(LlamaConfigTest, BothStylesOfRopeMeanTheSame) {
  const RopeConfig older =
      Parse(TinyConfig(
                R"("rope_theta": 5e5, "rope_scaling": {"type": "linear",
             "factor": 4.0})"))
          ->rope;
  const RopeConfig newer =
      Parse(TinyConfig(
                R"("rope_parameters": {"rope_type": "linear", "rope_theta": 5e5,
             "factor": 4.0})"))
          ->rope;
  for (const RopeConfig& rope : {older, newer}) {
    EXPECT_EQ(rope.kind, RopeConfig::Kind::kLinear);
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 4.0);
  }
}

TEST(LlamaConfigTest, DynamicRopeTakesLongerInputs) {
  absl::StatusOr<LlamaConfig> config = Parse(TinyConfig(
      R"("rope_parameters": {"rope_type": "dynamic", "factor": 2.0})"));
  EXPECT_EQ(config->traits.limits.longest_input, 600);
  EXPECT_FALSE(config->traits.is_incremental);
}

TEST(LlamaConfigTest, RefusesByNameWhatItCannotRun) {
  struct Case {
    std::string more, named;
  };
  for (const Case& c :
       {Case{R"("hidden_act": "wobble")", "wobble"},
        Case{R"("rope_parameters": {"rope_type": "spiral"})", "spiral"},
        Case{R"("rope_scaling": {"type": "yawn"})", "yawn"}}) {
    absl::Status status = Parse(TinyConfig(c.more)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << c.more;
    EXPECT_EQ(GetReason(status)->code, "UNSUPPORTED");
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.named));
  }
}

TEST(LlamaConfigTest, CallsABrokenConfigurationDamaged) {
  const std::string deep(200, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("{}"),
        deep, TinyConfig(R"("hidden_size": "wide")"),
        TinyConfig(R"("hidden_size": -4)"), TinyConfig(R"("hidden_size": 1e3)"),
        TinyConfig(R"("num_hidden_layers": 100000)"),
        TinyConfig(R"("num_key_value_heads": 3)"),
        TinyConfig(R"("head_dim": 5)"), TinyConfig(R"("mlp_bias": 1)"),
        TinyConfig(R"("rms_norm_eps": 0)"),
        TinyConfig(R"("rope_parameters": {"rope_type": "linear"})"),
        TinyConfig(R"("rope_scaling": 3)"),
        TinyConfig(R"("rope_scaling": {"type": "longrope"})"),
        TinyConfig(R"("rope_scaling": {"type": "longrope",
             "short_factor": [1, 1], "long_factor": [1, 2, 3]})")}) {
    absl::Status status = Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
  }
}

std::vector<int64_t> WindowsOf(const LlamaConfig& config) {
  std::vector<int64_t> windows;
  for (const LlamaConfig::LayerKind& layer : config.layers) {
    windows.push_back(layer.window);
  }
  return windows;
}

TEST(LlamaConfigTest, WindowsFollowEachArchitecture) {
  const std::string window = R"("sliding_window": 16)";
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(window), "MistralForCausalLM")),
              ElementsAre(16, 16));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(R"("sliding_window": null)"),
                               "MistralForCausalLM")),
              ElementsAre(0, 0));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(), "MistralForCausalLM")),
              ElementsAre(4096, 4096));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(window), "Qwen2ForCausalLM")),
              ElementsAre(0, 0));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(window + R"(, "max_window_layers": 1,
                  "use_sliding_window": true)"),
                               "Qwen2ForCausalLM")),
              ElementsAre(0, 16));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(window), "Gemma2ForCausalLM")),
              ElementsAre(16, 0));
  EXPECT_THAT(WindowsOf(*Parse(
                  TinyConfig(window + R"(, "layer_types": ["full_attention",
              "sliding_attention"])"),
                  "Gemma2ForCausalLM")),
              ElementsAre(0, 16));
  EXPECT_THAT(WindowsOf(*Parse(TinyConfig(), "LlamaForCausalLM")),
              ElementsAre(0, 0));
  EXPECT_EQ(Parse(TinyConfig(R"("layer_types": ["full_attention"])"),
                  "Gemma2ForCausalLM")
                .status()
                .code(),
            absl::StatusCode::kDataLoss);
}

TEST(LlamaConfigTest, GemmaCapsUnlessToldNotTo) {
  const LlamaConfig plain = *Parse(TinyConfig(), "Gemma2ForCausalLM");
  EXPECT_EQ(plain.attention_softcap, 50.0);
  EXPECT_EQ(plain.final_softcap, 30.0);
  EXPECT_EQ(plain.attention_scale, 1.0 / 16);
  EXPECT_TRUE(plain.ties_embeddings);
  const LlamaConfig free = *Parse(TinyConfig(R"("attn_logit_softcapping": null,
                    "final_logit_softcapping": null)"),
                                  "Gemma2ForCausalLM");
  EXPECT_EQ(free.attention_softcap, 0);
  EXPECT_EQ(free.final_softcap, 0);
}

TEST(LlamaConfigTest, SmolLm3LeavesOutRopeInEveryFourthLayer) {
  const std::string json = TinyConfig(R"("num_hidden_layers": 4)");
  const LlamaConfig config = *Parse(json, "SmolLM3ForCausalLM");
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(config.layers[i].has_rope, i != 3) << i;
  }
}

TEST(ArchitectureTest, IsNamedOrImplied) {
  EXPECT_EQ(*ArchitectureOf(R"({"architectures": ["GPT2LMHeadModel"]})"),
            "GPT2LMHeadModel");
  EXPECT_EQ(*ArchitectureOf(R"({"model_type": "llama"})"), "LlamaForCausalLM");
  EXPECT_EQ(ArchitectureOf("{}").status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace cairn
