#include "merge/model/parameter_patch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

constexpr char kUp[] = "model.layers.1.mlp.up_proj.weight";

TEST(ParameterPatchTest, PutsBackWhatStoodThere) {
  std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const at::Tensor original = model->parameters().find(kUp)->second;
  const at::Tensor before = *model->Forward(testing::SomeIds(8));
  {
    ParameterPatch patch(*model);
    ASSERT_TRUE(patch.Set(kUp, at::zeros({24, 16})).ok());
    ASSERT_TRUE(patch.Set(kUp, at::ones({24, 16})).ok());
    EXPECT_FALSE(patch.Set("none", at::ones({2})).ok());
    EXPECT_FALSE(model->Forward(testing::SomeIds(8))->equal(before));
  }
  EXPECT_TRUE(model->parameters().find(kUp)->second.is_same(original));
  EXPECT_TRUE(model->Forward(testing::SomeIds(8))->equal(before));
}

}  // namespace
}  // namespace cairn
