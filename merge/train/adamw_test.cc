#include "merge/train/adamw.h"

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

// The update as the paper writes it, in double.
TEST(AdamWTest, FollowsThePaper) {
  const AdamWOptions options{
      .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-6, .weight_decay = 0.1};
  std::vector<float> values = {1.0F, -2.0F};
  AdamW optimizer(options, 2, {{1, 2}});
  double m[2] = {}, v[2] = {}, x[2] = {1.0, -2.0};
  for (int step = 1; step <= 5; ++step) {
    const std::vector<float> gradient = {0.3F * static_cast<float>(step),
                                         -1.0F};
    const double rate = 0.01 * step;
    optimizer.Step(rate, step, gradient, absl::MakeSpan(values));
    for (int i = 0; i < 2; ++i) {
      const double g = gradient[static_cast<size_t>(i)];
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.95 * v[i] + 0.05 * g * g;
      if (i == 1) x[i] -= rate * 0.1 * x[i];
      x[i] -= rate * (m[i] / (1 - std::pow(0.9, step))) /
              (std::sqrt(v[i] / (1 - std::pow(0.95, step))) + 1e-6);
    }
  }
  EXPECT_NEAR(values[0], x[0], 1e-6);
  EXPECT_NEAR(values[1], x[1], 1e-6);
}

TEST(LearningRateTest, WarmsUpThenFollowsItsShape) {
  Schedule schedule{.peak = 2, .warmup = 0.1, .steps = 100};
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 5), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 10), 2.0);
  EXPECT_LT(LearningRate(schedule, 100), 0.01);
  EXPECT_GT(LearningRate(schedule, 100), 0);
  schedule.shape = ScheduleShape::kConstant;
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 100), 2.0);
  schedule.shape = ScheduleShape::kLinear;
  EXPECT_NEAR(LearningRate(schedule, 55), 2.0 * 46 / 90, 1e-12);
  schedule.warmup = 0;
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 1), 2.0);
}

TEST(ClipNormTest, ScalesOnlyWhatIsTooLong) {
  std::vector<float> gradient = {3, 4};
  EXPECT_DOUBLE_EQ(ClipNorm(10, absl::MakeSpan(gradient)), 5);
  EXPECT_THAT(gradient, ::testing::ElementsAre(3, 4));
  EXPECT_DOUBLE_EQ(ClipNorm(0, absl::MakeSpan(gradient)), 5);
  EXPECT_THAT(gradient, ::testing::ElementsAre(3, 4));
  EXPECT_DOUBLE_EQ(ClipNorm(1, absl::MakeSpan(gradient)), 5);
  EXPECT_THAT(gradient, ::testing::ElementsAre(::testing::FloatEq(0.6F),
                                               ::testing::FloatEq(0.8F)));
}

}  // namespace
}  // namespace cairn
