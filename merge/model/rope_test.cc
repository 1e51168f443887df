#include "merge/model/rope.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cairn {
namespace {

RopeTable TableOf(int64_t dim, int64_t length) {
  RopeConfig rope;
  rope.theta = 100.0;
  return MakeRopeTable(rope, dim, 64, length, at::Device(at::kCPU));
}

// Pairs are turned by their angles, whatever the layout of the heads and
// whether autograd looks on.
TEST(ApplyRopeTest, FollowsTheDefinition) {
  at::manual_seed(5);
  const RopeTable table = TableOf(6, 9);
  const at::Tensor x = at::randn({2, 9, 3, 8}).transpose(1, 2);
  const at::Tensor first = x.narrow(-1, 0, 3), second = x.narrow(-1, 3, 3);
  const at::Tensor want =
      at::cat({first * table.cos - second * table.sin,
               second * table.cos + first * table.sin, x.narrow(-1, 6, 2)},
              -1);
  for (const bool has_gradients : {true, false}) {
    const c10::AutoGradMode mode(has_gradients);
    for (const at::Tensor& in : {x, x.contiguous()}) {
      EXPECT_LT((ApplyRope(in, table) - want).abs().max().item<float>(), 1e-6);
    }
    const at::Tensor rounded = ApplyRope(x.to(at::kBFloat16), table);
    EXPECT_EQ(rounded.scalar_type(), at::kBFloat16);
    EXPECT_LT((rounded.to(at::kFloat) - want).abs().max().item<float>(), 0.05);
  }
}

TEST(MakeRopeTableTest, TurnsByPositionAndFrequency) {
  const RopeTable table = TableOf(4, 3);
  EXPECT_EQ(table.cos.sizes(), at::IntArrayRef({3, 2}));
  EXPECT_NEAR(table.cos[2][0].item<float>(), std::cos(2.0), 1e-6);
  EXPECT_NEAR(table.sin[2][1].item<float>(), std::sin(2.0 / 10), 1e-6);
  const RopeTable later = RowsOf(table, 1, 2);
  EXPECT_TRUE(at::equal(later.sin[1], table.sin[2]));
}

}  // namespace
}  // namespace cairn
