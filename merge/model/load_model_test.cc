#include "merge/model/load_model.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>

#include "core/base/status_util.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::cairn::testing::MakeCheckpointFiles;
using ::cairn::testing::SomeIds;
using ::cairn::testing::TinyConfig;
using ::cairn::testing::TinyParameters;
using ::testing::HasSubstr;

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";

absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& config_json,
                                            const ParameterMap& parameters,
                                            const LoadOptions& options = {}) {
  absl::StatusOr<Checkpoint> checkpoint =
      Checkpoint::Open(MakeCheckpointFiles(config_json, parameters));
  if (!checkpoint.ok()) return checkpoint.status();
  return LoadModel(*checkpoint, options);
}

ParameterMap SomeParameters() { return TinyParameters(); }

TEST(LoadModelTest, RunsAsTheModelThatWasSaved) {
  std::unique_ptr<LanguageModel> made = testing::MakeTinyLlama();
  for (int threads : {1, 3}) {
    absl::StatusOr<std::unique_ptr<Model>> model =
        Load(TinyConfig(), made->parameters(), {.threads = threads});
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->architecture(), "LlamaForCausalLM");
    EXPECT_TRUE((*model)
                    ->language()
                    ->Forward(SomeIds(7))
                    ->equal(*made->Forward(SomeIds(7))));
  }
}

TEST(LoadModelTest, ConvertsToTheTypeOfTheArithmetic) {
  ParameterMap stored = SomeParameters();
  for (auto& [name, value] : stored) value = value.to(at::kBFloat16);
  std::unique_ptr<Model> wide = *Load(TinyConfig(), stored);
  std::unique_ptr<Model> narrow =
      *Load(TinyConfig(), stored, {.dtype = at::kBFloat16});
  EXPECT_EQ(wide->dtype(), at::kFloat);
  EXPECT_EQ(narrow->dtype(), at::kBFloat16);
  const at::Tensor a = *wide->language()->Forward(SomeIds(30));
  const at::Tensor b = narrow->language()->Forward(SomeIds(30))->to(at::kFloat);
  EXPECT_LT((a - b).abs().max().item<float>(), 0.25);
  EXPECT_FALSE(a.equal(b));
}

TEST(LoadModelTest, IgnoresSavedBuffers) {
  ParameterMap parameters = SomeParameters();
  parameters["model.layers.0.self_attn.rotary_emb.inv_freq"] =
      at::full({1, 8}, std::numeric_limits<float>::quiet_NaN());
  EXPECT_TRUE(Load(TinyConfig(), parameters).ok());
}

TEST(LoadModelTest, TellsWhatAModelCanDo) {
  std::unique_ptr<Model> model = *MakeModel(
      R"({"architectures": ["ViTForImageClassification"], "image_size": 32,
          "num_labels": 7})",
      {});
  EXPECT_EQ(model->language(), nullptr);
  EXPECT_EQ(model->text_classifier(), nullptr);
  ASSERT_NE(model->image_classifier(), nullptr);
  EXPECT_EQ(model->image_classifier()->labels(), 7);
  EXPECT_EQ(model->image_classifier()->image().height, 32);
}

TEST(LoadModelTest, BodiesWithoutTheirHeadAreMissingTheHead) {
  const std::string config =
      R"({"architectures": ["BertForSequenceClassification"],
          "vocab_size": 9, "hidden_size": 4, "intermediate_size": 4,
          "num_hidden_layers": 1, "num_attention_heads": 1})";
  ShapeMap bare;
  std::unique_ptr<Model> model = *MakeModel(config, {});
  for (const ParameterSpec& spec : model->parameter_specs()) {
    if (spec.name.starts_with("bert.")) bare[spec.name.substr(5)] = spec.shape;
  }
  const absl::Status status = (*MakeModel(config, bare))->CheckTensors(bare);
  EXPECT_EQ(GetReason(status)->details.at("tensor"), "classifier.weight");
}

TEST(LoadModelTest, RefusesArchitecturesByName) {
  absl::Status status =
      Load(R"({"architectures": ["MambaForCausalLM"]})", {{"w", at::ones({2})}})
          .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("MambaForCausalLM"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("TorchScript"));
}

TEST(LoadModelTest, RefusesWeightsThatAreNotFinite) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    ParameterMap parameters = SomeParameters();
    at::Tensor bad = parameters[kUp].to(type).clone();
    bad[3][5] = std::numeric_limits<float>::infinity();
    parameters[kUp] = bad;
    absl::Status status = Load(TinyConfig(), parameters).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(GetReason(status)->code, "NON_FINITE");
    EXPECT_EQ(GetReason(status)->details.at("tensor"), kUp);
  }
}

TEST(LoadModelTest, ChecksShapesBeforeItReadsWeights) {
  ParameterMap parameters = SomeParameters();
  parameters[kUp] = parameters[kUp].narrow(1, 0, 11);
  absl::Status status = Load(TinyConfig(), parameters).status();
  EXPECT_EQ(GetReason(status)->code, "SHAPE_MISMATCH");
}

TEST(LoadModelTest, MissingConfigurationIsDamage) {
  FileMap files = MakeCheckpointFiles(TinyConfig(), SomeParameters());
  files.erase("config.json");
  absl::Status status = LoadModel(*Checkpoint::Open(files), {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
}

TEST(LoadModelTest, MissingDirectoryIsNotFound) {
  EXPECT_EQ(LoadModelDirectory("/nowhere/model", {}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(ParseDeviceTest, KnowsWhatThisMachineHas) {
  EXPECT_EQ(*ParseDevice("cpu"), at::Device(at::kCPU));
  for (const char* text : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda1"}) {
    EXPECT_EQ(ParseDevice(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
  if (!at::hasCUDA()) {
    EXPECT_EQ(ParseDevice("cuda:0").status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
}

TEST(ParseArithmeticTest, KnowsTwoTypes) {
  EXPECT_EQ(*ParseArithmetic("float32"), at::kFloat);
  EXPECT_EQ(*ParseArithmetic("bfloat16"), at::kBFloat16);
  EXPECT_FALSE(ParseArithmetic("int3").ok());
}

}  // namespace
}  // namespace cairn
