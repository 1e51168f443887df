#include "merge/model/llama.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "core/base/status_util.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::cairn::testing::MakeTinyLlama;
using ::cairn::testing::SomeIds;
using ::cairn::testing::TinyConfig;
using ::cairn::testing::TinyParameters;
using ::testing::HasSubstr;

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";

TEST(LlamaTest, GivesLogitsOfEveryPosition) {
  std::unique_ptr<Llama> model = MakeTinyLlama();
  absl::StatusOr<at::Tensor> logits = model->Forward(SomeIds(9));
  ASSERT_TRUE(logits.ok()) << logits.status();
  EXPECT_EQ(logits->sizes(), at::IntArrayRef({1, 9, 13}));
  EXPECT_TRUE(at::isfinite(*logits).all().item<bool>());
}

TEST(LlamaTest, RowsOfABatchAreIndependent) {
  std::unique_ptr<Llama> model = MakeTinyLlama();
  const at::Tensor first = SomeIds(20), second = first.flip({1});
  const at::Tensor both = *model->Forward(at::cat({first, second}));
  EXPECT_LT((both[1] - (*model->Forward(second))[0]).abs().max().item<float>(),
            1e-5);
}

TEST(LlamaTest, RefusesIdsItHasNoEmbeddingFor) {
  std::unique_ptr<Llama> model = MakeTinyLlama();
  for (int64_t bad : {-1, 13}) {
    absl::Status status = model->Hidden(at::full({1, 4}, bad)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("vocabulary of 13"));
  }
  EXPECT_FALSE(model->Hidden(SomeIds(301)).ok());
  EXPECT_FALSE(model->Hidden(at::empty({1, 0}, at::kLong)).ok());
  EXPECT_FALSE(model->Hidden(SomeIds(4)[0]).ok());
}

TEST(LlamaTest, GradientEqualsFiniteDifferences) {
  LlamaConfig config = *LlamaConfig::Parse(TinyConfig());
  ParameterMap parameters = TinyParameters(config);
  at::Tensor up = parameters[kUp].clone().requires_grad_(true);
  parameters[kUp] = up;
  std::unique_ptr<Llama> model =
      *Llama::Create(std::move(config), std::move(parameters));
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
  LlamaConfig config =
      *LlamaConfig::Parse(TinyConfig(R"("tie_word_embeddings": true)"));
  ParameterMap tied = TinyParameters(config, /*has_head=*/false);
  ParameterMap untied = tied;
  untied["lm_head.weight"] = tied["model.embed_tokens.weight"];
  std::unique_ptr<Llama> one = *Llama::Create(config, std::move(tied));
  std::unique_ptr<Llama> other = *Llama::Create(config, std::move(untied));
  EXPECT_FALSE(one->parameters().contains("lm_head.weight"));
  EXPECT_TRUE(one->Forward(SomeIds(5))->equal(*other->Forward(SomeIds(5))));
  const at::Tensor hidden = *one->Hidden(SomeIds(5));
  const at::Tensor before = *one->Logits(hidden);
  ASSERT_TRUE(
      one->SetParameter("model.embed_tokens.weight", at::ones({13, 16})).ok());
  EXPECT_FALSE(one->Logits(hidden)->equal(before));
}

TEST(LlamaTest, ACopyIsReplacedOnItsOwn) {
  std::unique_ptr<Llama> model = MakeTinyLlama();
  const at::Tensor before = *model->Forward(SomeIds(6));
  std::unique_ptr<Model> copy = model->ShallowCopy();
  EXPECT_TRUE(copy->Forward(SomeIds(6))->equal(before));
  ASSERT_TRUE(copy->SetParameter(kUp, at::zeros({24, 16})).ok());
  EXPECT_FALSE(copy->Forward(SomeIds(6))->equal(before));
  EXPECT_TRUE(model->Forward(SomeIds(6))->equal(before));
}

TEST(LlamaTest, NamesWhatDoesNotFitTheConfiguration) {
  const LlamaConfig config = *LlamaConfig::Parse(TinyConfig());
  const auto fault = [&](auto change) {
    ParameterMap parameters = TinyParameters(config);
    change(parameters);
    return Llama::Create(config, std::move(parameters)).status();
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
  std::unique_ptr<Llama> model = MakeTinyLlama();
  EXPECT_EQ(model->SetParameter("none", at::ones({1})).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(model->SetParameter(kUp, at::ones({2, 2})))->code,
            "SHAPE_MISMATCH");
  ASSERT_TRUE(model->SetParameter(kUp, at::ones({24, 16}, at::kHalf)).ok());
  EXPECT_EQ(model->parameters().find(kUp)->second.scalar_type(), at::kFloat);
}

}  // namespace
}  // namespace cairn
