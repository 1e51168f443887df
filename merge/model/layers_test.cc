#include "merge/model/layers.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/base/status_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(LinearTest, TakesBothLayoutsOfTheWeight) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 3, 5}), weight = at::randn({4, 5});
  const at::Tensor turned = weight.t().contiguous(), bias = at::randn({4});
  for (const bool has_gradients : {true, false}) {
    const c10::AutoGradMode mode(has_gradients);
    const at::Tensor plain = Linear{.weight = &weight, .bias = &bias}(x);
    const at::Tensor other =
        Linear{.weight = &turned, .bias = &bias, .is_in_out = true}(x);
    EXPECT_EQ(plain.sizes(), at::IntArrayRef({2, 3, 4}));
    EXPECT_LT((plain - other).abs().max().item<float>(), 1e-5);
    EXPECT_LT((plain[1][2] - at::mv(weight, x[1][2]) - bias)
                  .abs()
                  .max()
                  .item<float>(),
              1e-5);
  }
}

TEST(LinearTest, OneRowGivesWhatItGivesAmongOthers) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 3, 5}), weight = at::randn({4, 5});
  const at::Tensor turned = weight.t().contiguous(), bias = at::randn({4});
  for (const at::Tensor* b : {&bias, static_cast<const at::Tensor*>(nullptr)}) {
    const Linear plain = {.weight = &weight, .bias = b};
    const Linear other = {.weight = &turned, .bias = b, .is_in_out = true};
    const at::Tensor want = plain(x)[1].narrow(0, 2, 1);
    const at::Tensor row = x.narrow(0, 1, 1).narrow(1, 2, 1);
    for (const at::Tensor& got : {plain(row), other(row)}) {
      EXPECT_EQ(got.sizes(), at::IntArrayRef({1, 1, 4}));
      EXPECT_LT((got[0] - want).abs().max().item<float>(), 1e-5);
    }
  }
}

TEST(LinearTest, RoundsItsInputToTheTypeOfTheWeight) {
  const at::Tensor weight = at::ones({2, 3}, at::kBFloat16);
  EXPECT_EQ(Linear{.weight = &weight}(at::ones({1, 3})).scalar_type(),
            at::kBFloat16);
}

TEST(NormTest, StaysInF32WhateverTheGains) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({3, 8}) * 5 + 1;
  const at::Tensor gain = at::rand({8}).to(at::kBFloat16);
  const at::Tensor wide = gain.to(at::kFloat);
  const at::Tensor rms = (x * x).mean(-1, true).sqrt();
  const RmsNorm norm = {.gain = &gain, .epsilon = 1e-12};
  const RmsNorm gemma = {.gain = &gain, .epsilon = 1e-12, .adds_one = true};
  for (const bool has_gradients : {true, false}) {
    const c10::AutoGradMode mode(has_gradients);
    EXPECT_LT((norm(x) - x / rms * wide).abs().max().item<float>(), 1e-5);
    EXPECT_LT((gemma(x) - x / rms * (1 + wide)).abs().max().item<float>(),
              1e-5);
  }
  const LayerNorm layer = {
      .gain = &gain, .bias = &gain, .width = 8, .epsilon = 1e-12};
  const at::Tensor centred = x - x.mean(-1, true);
  const at::Tensor deviation = (centred * centred).mean(-1, true).sqrt();
  EXPECT_LT((layer(x) - (centred / deviation * wide + wide))
                .abs()
                .max()
                .item<float>(),
            1e-5);
}

TEST(ActivateGateTest, IsTheProductInEveryLayout) {
  at::manual_seed(3);
  const at::Tensor both = at::randn({2, 5, 14});
  const at::Tensor gate = both.narrow(-1, 0, 7), up = both.narrow(-1, 7, 7);
  for (const char* name : {"silu", "gelu"}) {
    const Activation activation = *FindActivation("hidden_act", name);
    const at::Tensor want = activation(gate) * up;
    for (const bool has_gradients : {true, false}) {
      const c10::AutoGradMode mode(has_gradients);
      for (const at::Tensor& got :
           {ActivateGate(activation, gate, up),
            ActivateGate(activation, gate.contiguous(), up.contiguous()),
            ActivateGate(activation, gate.contiguous(), up),
            ActivateGate(activation, gate.narrow(0, 0, 1),
                         up.narrow(0, 0, 1))}) {
        EXPECT_LT(
            (got - want.narrow(0, 0, got.size(0))).abs().max().item<float>(),
            1e-6)
            << name;
      }
    }
  }
}

TEST(ActivationTest, IsFoundByNameOrRefusedByName) {
  const at::Tensor x = at::tensor({-1.0F, 2.0F});
  EXPECT_NEAR((*FindActivation("hidden_act", "quick_gelu"))(x)[1].item<float>(),
              2 / (1 + std::exp(-3.404)), 1e-5);
  EXPECT_NEAR((*FindActivation("hidden_act", "gelu_new"))(x)[0].item<float>(),
              -0.158808, 1e-5);
  EXPECT_NEAR((*FindActivation("hidden_act", "gelu"))(x)[0].item<float>(),
              -0.158655, 1e-5);
  const absl::Status status = FindActivation("hidden_act", "wobble").status();
  EXPECT_EQ(GetReason(status)->code, "UNSUPPORTED");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("`hidden_act` `wobble`"));
}

TEST(ParameterScopeTest, NamesAndShapesFollowTheNesting) {
  ParameterTable table;
  const ParameterScope layer = ParameterScope(table, "m.").Under("layers", 3);
  layer.MakeLinear("up", 4, 6, ParameterScope::Bias::kOne);
  layer.MakeConv1d("down", 6, 4);
  ASSERT_EQ(table.specs().size(), 4U);
  EXPECT_EQ(table.specs()[0].name, "m.layers.3.up.weight");
  EXPECT_THAT(table.specs()[0].shape, ElementsAre(6, 4));
  EXPECT_EQ(table.specs()[1].name, "m.layers.3.up.bias");
  EXPECT_THAT(table.specs()[2].shape, ElementsAre(6, 4));
}

TEST(PrefixTest, IsThatOfTheFile) {
  EXPECT_EQ(PrefixInUse({}, "bert."), "bert.");
  EXPECT_EQ(PrefixInUse({{"bert.x", {1}}, {"classifier.bias", {1}}}, "bert."),
            "bert.");
  EXPECT_EQ(PrefixInUse({{"embeddings.x", {1}}}, "bert."), "");
}

TEST(PatchTest, IsAProductWithEachWindow) {
  at::manual_seed(3);
  const at::Tensor pixels = at::randn({3, 4, 6}), bias = at::randn({5});
  const at::Tensor weight = at::randn({5, 3, 2, 2});
  const at::Tensor got = PatchEmbeddings(pixels, weight, &bias);
  ASSERT_EQ(got.sizes(), at::IntArrayRef({1, 6, 5}));
  const at::Tensor window = pixels.narrow(1, 2, 2).narrow(2, 4, 2);
  const at::Tensor want = (weight * window.unsqueeze(0)).sum({1, 2, 3}) + bias;
  EXPECT_LT((got[0][5] - want).abs().max().item<float>(), 1e-5);
}

}  // namespace
}  // namespace cairn
