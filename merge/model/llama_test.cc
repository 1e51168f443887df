#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "core/base/status_util.h"
#include "merge/model/load_model.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::cairn::testing::MakeTinyLlama;
using ::cairn::testing::MakeTinyModel;
using ::cairn::testing::SomeIds;
using ::cairn::testing::TinyConfig;
using ::cairn::testing::TinyParameters;
using ::testing::HasSubstr;

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";

TEST(LlamaTest, GivesLogitsOfEveryPosition) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  absl::StatusOr<at::Tensor> logits = model->Forward(SomeIds(9));
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(logits->sizes(), at::IntArrayRef({1, 9, 13}));
  EXPECT_TRUE(at::isfinite(*logits).all().item<bool>());
}

TEST(LlamaTest, RowsOfABatchAreIndependent) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  const at::Tensor first = SomeIds(20), second = first.flip({1});
  const at::Tensor both = *model->Forward(at::cat({first, second}));
  EXPECT_LT((both[1] - (*model->Forward(second))[0]).abs().max().item<float>(),
            1e-5);
}

TEST(LlamaTest, RefusesIdsItHasNoEmbeddingFor) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  for (int64_t bad : {-1, 13}) {
    absl::Status status = model->Hidden(at::full({1, 4}, bad)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("vocabulary of 13"));
  }
  EXPECT_FALSE(model->Hidden(SomeIds(301)).ok());
  EXPECT_FALSE(model->Hidden(at::empty({1, 0}, at::kLong)).ok());
  EXPECT_FALSE(model->Hidden(SomeIds(4)[0]).ok());
}

TEST(LlamaTest, AMemoryGoesOnWhereTheTextStopped) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  const at::Tensor ids = SomeIds(150);
  const at::Tensor whole = *model->Hidden(ids);
  Memory memory;
  std::vector<at::Tensor> parts;
  int64_t first = 0;
  for (int64_t count : {60, 1, 89}) {
    parts.push_back(*model->Hidden(ids.narrow(1, first, count), &memory));
    first += count;
  }
  EXPECT_EQ(memory.length, 150);
  EXPECT_LT((at::cat(parts, 1) - whole).abs().max().item<float>(), 1e-5);
  EXPECT_FALSE(model->Hidden(SomeIds(151), &memory).ok());
}

TEST(LlamaTest, CopiesOfAMemoryGoOnApart) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  Memory memory;
  ASSERT_TRUE(model->Hidden(SomeIds(9), &memory).ok());
  Memory other = memory;
  const at::Tensor one = *model->Hidden(SomeIds(3), &memory);
  ASSERT_TRUE(model->Hidden(at::full({1, 5}, 4), &memory).ok());
  EXPECT_TRUE(model->Hidden(SomeIds(3), &other)->equal(one));
}

// Changes a parameter behind the model's back.
void Spoil(const Model& model, const std::string& name) {
  model.parameters().find(name)->second.data().mul_(3);
}

TEST(SharedLayersTest, ComeBackForTheSameInputOnly) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  const at::Tensor known = SomeIds(20), other = SomeIds(21);
  const at::Tensor want = *model->Hidden(known), before = *model->Hidden(other);
  EXPECT_EQ(model->LayersBefore({kUp, "lm_head.weight"}), 1U);
  model->ShareLayers(1);
  EXPECT_TRUE(model->Hidden(known)->equal(want));
  Memory memory, again;
  EXPECT_TRUE(model->Hidden(known, &memory)->equal(want));
  Spoil(*model, "model.layers.0.mlp.up_proj.weight");
  EXPECT_TRUE(model->Hidden(known)->equal(want)) << "read anew";
  EXPECT_TRUE(model->Hidden(known, &again)->equal(want)) << "read anew";
  EXPECT_TRUE(again.layers[0].keys.equal(memory.layers[0].keys));
  EXPECT_FALSE(model->Hidden(other)->equal(before)) << "not read";
}

TEST(SharedLayersTest, GiveTheBitsOfAModelThatSharesNothing) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  std::unique_ptr<Model> alone = model->ShallowCopy();
  model->ShareLayers(1);
  ASSERT_TRUE(model->Hidden(SomeIds(20)).ok());
  std::unique_ptr<Model> copy = model->ShallowCopy();
  const at::Tensor up = model->parameters().find(kUp)->second * 2;
  ASSERT_EQ(copy->SetParameter(kUp, up), absl::OkStatus());
  ASSERT_EQ(alone->SetParameter(kUp, up), absl::OkStatus());
  EXPECT_TRUE(copy->language()
                  ->Hidden(SomeIds(20))
                  ->equal(*alone->language()->Hidden(SomeIds(20))));
  // With a memory, keys and values of the shared layers come along.
  for (int round = 0; round < 2; ++round) {
    Memory shared, own;
    ASSERT_TRUE(copy->language()->Hidden(SomeIds(20), &shared).ok());
    ASSERT_TRUE(alone->language()->Hidden(SomeIds(20), &own).ok());
    EXPECT_TRUE(copy->language()
                    ->Hidden(SomeIds(5), &shared)
                    ->equal(*alone->language()->Hidden(SomeIds(5), &own)));
  }
}

TEST(SharedLayersTest, EndWithAParameterUpToThere) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  model->ShareLayers(1);
  const at::Tensor before = *model->Hidden(SomeIds(20));
  const std::string first = "model.layers.0.mlp.up_proj.weight";
  EXPECT_EQ(model->LayersBefore({first, kUp}), 0U);
  ASSERT_EQ(
      model->SetParameter(first, model->parameters().find(first)->second * 2),
      absl::OkStatus());
  EXPECT_FALSE(model->Hidden(SomeIds(20))->equal(before));
}

TEST(SharedLayersTest, AreAllThatComeBeforeAParameter) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  EXPECT_EQ(model->LayersBefore({}), 2U);
  EXPECT_EQ(model->LayersBefore({"lm_head.weight"}), 2U);
  EXPECT_EQ(model->LayersBefore({"model.norm.weight"}), 2U);
  EXPECT_EQ(model->LayersBefore({kUp}), 1U);
  EXPECT_EQ(model->LayersBefore({"model.embed_tokens.weight"}), 0U);
}

TEST(LlamaTest, GradientEqualsFiniteDifferences) {
  ParameterMap parameters = TinyParameters();
  at::Tensor up = parameters[kUp].clone().requires_grad_(true);
  parameters[kUp] = up;
  std::unique_ptr<LanguageModel> model =
      MakeTinyModel(TinyConfig(), std::move(parameters));
  const auto loss = [&] {
    return at::logsumexp(*model->Forward(SomeIds(150)), -1).mean();
  };
  loss().backward();
  ASSERT_TRUE(up.grad().defined());
  const at::Tensor plain = up.detach();
  const float slope = up.grad()[3][5].item<float>();
  constexpr float kStep = 0.05F;
  float sides[2];
  for (int i = 0; i < 2; ++i) {
    at::Tensor moved = plain.clone();
    moved[3][5] += i == 0 ? kStep : -kStep;
    ASSERT_TRUE(model->SetParameter(kUp, moved).ok());
    sides[i] = loss().item<float>();
  }
  const float measured = (sides[0] - sides[1]) / (2 * kStep);
  EXPECT_NEAR(slope, measured, 1e-4 + 0.03 * std::abs(measured));
}

TEST(LlamaTest, ATiedHeadFollowsTheEmbeddings) {
  const std::string config = TinyConfig(R"("tie_word_embeddings": true)");
  ParameterMap tied = TinyParameters(config);
  ParameterMap untied = tied;
  untied["lm_head.weight"] = tied["model.embed_tokens.weight"];
  std::unique_ptr<LanguageModel> one = MakeTinyModel(config, tied);
  std::unique_ptr<LanguageModel> other = MakeTinyModel(config, untied);
  EXPECT_FALSE(one->parameters().contains("lm_head.weight"));
  EXPECT_TRUE(one->Forward(SomeIds(5))->equal(*other->Forward(SomeIds(5))));
  const at::Tensor hidden = *one->Hidden(SomeIds(5));
  const at::Tensor before = *one->Logits(hidden);
  ASSERT_TRUE(
      one->SetParameter("model.embed_tokens.weight", at::ones({13, 16})).ok());
  EXPECT_FALSE(one->Logits(hidden)->equal(before));
}

TEST(LlamaTest, ACopyIsReplacedOnItsOwn) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  const at::Tensor before = *model->Forward(SomeIds(6));
  std::unique_ptr<Model> copy = model->ShallowCopy();
  EXPECT_TRUE(copy->language()->Forward(SomeIds(6))->equal(before));
  ASSERT_TRUE(copy->SetParameter(kUp, at::zeros({24, 16})).ok());
  EXPECT_FALSE(copy->language()->Forward(SomeIds(6))->equal(before));
  EXPECT_TRUE(model->Forward(SomeIds(6))->equal(before));
}

TEST(LlamaTest, NamesWhatDoesNotFitTheConfiguration) {
  const auto fault = [&](auto change) {
    ParameterMap parameters = TinyParameters();
    change(parameters);
    return (*MakeModel(TinyConfig(), {}))->Fill(std::move(parameters));
  };
  absl::Status missing = fault([](ParameterMap& p) { p.erase(kUp); });
  absl::Status extra = fault([](ParameterMap& p) { p["more"] = p[kUp]; });
  absl::Status shape =
      fault([](ParameterMap& p) { p[kUp] = p[kUp].narrow(1, 0, 11); });
  absl::Status head = fault([](ParameterMap& p) { p.erase("lm_head.weight"); });
  for (const absl::Status& status : {missing, extra, shape, head}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(GetReason(missing)->details.at("tensor"), kUp);
  EXPECT_EQ(GetReason(extra)->details.at("tensor"), "more");
  EXPECT_EQ(GetReason(head)->details.at("tensor"), "lm_head.weight");
  EXPECT_EQ(GetReason(shape)->code, "SHAPE_MISMATCH");
  EXPECT_THAT(std::string(shape.message()), HasSubstr("[24, 11]"));
  EXPECT_THAT(std::string(shape.message()), HasSubstr("[24, 16]"));
}

TEST(LlamaTest, SetParameterKeepsTypeAndShape) {
  std::unique_ptr<LanguageModel> model = MakeTinyLlama();
  EXPECT_EQ(model->SetParameter("none", at::ones({1})).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(model->SetParameter(kUp, at::ones({2, 2})))->code,
            "SHAPE_MISMATCH");
  ASSERT_TRUE(model->SetParameter(kUp, at::ones({24, 16}, at::kHalf)).ok());
  EXPECT_EQ(model->parameters().find(kUp)->second.scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace cairn
