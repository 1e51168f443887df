#include "merge/model/llama_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/base/status_util.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::cairn::testing::TinyConfig;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LlamaConfigTest, FillsInTheDefaultsOfTransformers) {
  absl::StatusOr<LlamaConfig> config = LlamaConfig::Parse(
      R"({"vocab_size": 9, "hidden_size": 32, "intermediate_size": 8,
          "num_hidden_layers": 1, "num_attention_heads": 4})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->max_position_embeddings, 2048);
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_FALSE(config->ties_embeddings);
  EXPECT_TRUE(config->prefix_ids.empty());
}

TEST(LlamaConfigTest, PrefixIsTheFirstTokenOfTextElseTheLast) {
  EXPECT_THAT(LlamaConfig::Parse(TinyConfig())->prefix_ids, ElementsAre(1));
  EXPECT_THAT(
      LlamaConfig::Parse(TinyConfig(R"("bos_token_id": null)"))->prefix_ids,
      ElementsAre(2));
}

TEST(LlamaConfigTest, BothStylesOfRopeMeanTheSame) {
  const RopeConfig older =
      LlamaConfig::Parse(
          TinyConfig(
              R"("rope_theta": 5e5, "rope_scaling": {"type": "linear",
             "factor": 4.0})"))
          ->rope;
  const RopeConfig newer =
      LlamaConfig::Parse(
          TinyConfig(
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
  absl::StatusOr<LlamaConfig> config = LlamaConfig::Parse(TinyConfig(
      R"("rope_parameters": {"rope_type": "dynamic", "factor": 2.0})"));
  EXPECT_EQ(config->LongestInput(), 600);
}

TEST(LlamaConfigTest, RefusesByNameWhatItCannotRun) {
  struct Case {
    std::string more, named;
  };
  for (const Case& c :
       {Case{R"("hidden_act": "wobble")", "wobble"},
        Case{R"("rope_parameters": {"rope_type": "spiral"})", "spiral"},
        Case{R"("rope_scaling": {"type": "longrope"})", "longrope"},
        Case{R"("rope_parameters": {"partial_rotary_factor": 0.5})",
             "partial_rotary_factor"}}) {
    absl::Status status = LlamaConfig::Parse(TinyConfig(c.more)).status();
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
        TinyConfig(R"("rope_scaling": 3)")}) {
    absl::Status status = LlamaConfig::Parse(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
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
