// Logits and scores against those of transformers and peft; make_goldens.py
// beside this file wrote them.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"
#include "merge/delta/update_delta.h"
#include "merge/eval/apply_update.h"
#include "merge/eval/evaluate.h"
#include "merge/model/load_model.h"
#include "merge/model/parameter_patch.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

constexpr double kTolerance = 1e-4;

std::string PathTo(const std::string& name) {
  return std::string(std::getenv("CAIRN_SOURCE_DIR")) +
         "/tests/testdata/parity/" + name;
}

at::Tensor ReadGolden(const std::string& name, const std::string& tensor) {
  const std::string path = PathTo(name) + "/golden.safetensors";
  SharedSource file = *OpenFileSource(path);
  const SafetensorsHeader header = *SafetensorsHeader::Read(*file, path);
  const TensorEntry& entry = *header.Find(tensor);
  return *ReadTensor(
      *MakeSliceSource(file, entry.begin, entry.end - entry.begin), entry.dtype,
      entry.shape);
}

class LlamaLogits : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaLogits, EqualTransformers) {
  absl::StatusOr<std::unique_ptr<Model>> model =
      LoadModelDirectory(PathTo(GetParam()), {});
  ASSERT_TRUE(model.ok()) << model.status();
  const at::Tensor ids = ReadGolden(GetParam(), "ids").to(at::kLong);
  const at::Tensor want = ReadGolden(GetParam(), "logits");
  absl::StatusOr<at::Tensor> got = (*model)->language()->Forward(ids.unsqueeze(0));
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_GT(want.abs().max().item<double>(), 1.0);
  EXPECT_LE((got->squeeze(0) - want).abs().max().item<double>(), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Goldens, LlamaLogits,
                         ::testing::Values("gqa", "tied", "biases", "bf16",
                                           "rope_linear", "rope_dynamic",
                                           "rope_llama3", "rope_yarn"),
                         [](const auto& golden) {
                           return std::string(golden.param);
                         });

// The model of case "gqa" and the scores of transformers and peft with it.
class LlamaScores : public ::testing::Test {
 protected:
  void SetUp() override {
    base_ = *OpenModelDirectory(PathTo("gqa"));
    model_ = *LoadModel(base_, {});
    scores_ = nlohmann::json::parse(*ReadFile(PathTo("scores.json")));
  }

  SplitReport Evaluate(const std::string& kind) {
    const Suite suite = *Suite::OpenDirectory(PathTo("suites/" + kind));
    return *EvaluateSuite(*model_, suite, "gate", {});
  }

  void ExpectScores(const std::string& side) {
    const std::vector<double> texts = scores_[side]["perplexity"];
    const SplitReport report = Evaluate("perplexity");
    ASSERT_EQ(report.items.size(), texts.size());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_NEAR(report.items[i].logprob_sum, texts[i],
                  kTolerance * static_cast<double>(report.items[i].tokens));
    }
    const std::vector<std::vector<double>> choices =
        scores_[side]["multiple_choice"];
    const SplitReport chosen = Evaluate("multiple_choice");
    ASSERT_EQ(chosen.items.size(), choices.size());
    for (size_t i = 0; i < choices.size(); ++i) {
      for (size_t c = 0; c < choices[i].size(); ++c) {
        EXPECT_NEAR(chosen.items[i].choice_logprobs[c], choices[i][c], 5e-4);
      }
    }
  }

  Checkpoint base_;
  std::unique_ptr<Model> model_;
  nlohmann::json scores_;
};

TEST_F(LlamaScores, EqualTransformers) { ExpectScores("base"); }

TEST_F(LlamaScores, WithLoraEqualPeft) {
  absl::StatusOr<std::unique_ptr<Update>> lora =
      OpenUpdateDirectory(PathTo("lora"));
  ASSERT_TRUE(lora.ok()) << lora.status();
  ASSERT_TRUE(CheckFits(**lora, base_).ok());
  {
    ParameterPatch patch(*model_);
    ASSERT_TRUE(ApplyUpdate(**lora, base_, 2, patch).ok());
    ExpectScores("lora");
  }
  ExpectScores("base");
}

}  // namespace
}  // namespace cairn
