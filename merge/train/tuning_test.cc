#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "merge/train/loss_gradient.h"
#include "merge/train/low_rank_tuning.h"
#include "merge/train/sparse_tuning.h"
#include "merge/train/testing/toy_model.h"
#include "merge/train/trainer.h"
#include "merge/train/tuning.h"

namespace cairn {
namespace {

using ::cairn::testing::ToyData;
using ::cairn::testing::ToyModel;
using ::testing::ElementsAre;

LossGradient::Windows Windows(int64_t count) {
  return DrawWindows(ToyData(), {.batch = count, .window = 12, .seed = 3},
                     kTrainingStream, 0);
}

// The analytic gradient by values() against central differences of the loss.
void CheckGradient(const ToyModel& model, Tuning& tuning) {
  const auto windows = Windows(4);
  LossGradient gradient(model.forward(), tuning, 2, 1);
  std::vector<float> by_weights(tuning.weight_count());
  std::vector<float> by_values(tuning.values().size());
  ASSERT_TRUE(gradient.Compute(windows, absl::MakeSpan(by_weights)).ok());
  tuning.Reduce(by_weights, absl::MakeSpan(by_values));
  std::vector<float> unused(tuning.weight_count());
  for (size_t i = 0; i < by_values.size(); i += 5) {
    const float kept = tuning.values()[i];
    const float step = 1e-2F;
    double loss[2];
    for (const int side : {0, 1}) {
      tuning.values()[i] = side == 0 ? kept - step : kept + step;
      tuning.Apply();
      loss[side] = *gradient.Compute(windows, absl::MakeSpan(unused));
    }
    tuning.values()[i] = kept;
    tuning.Apply();
    const double numeric = (loss[1] - loss[0]) / (2.0 * step);
    EXPECT_NEAR(by_values[i], numeric, 2e-4 + 0.02 * std::fabs(numeric))
        << "value " << i;
  }
}

TEST(FullTuningTest, GradientIsTheSlopeOfTheLoss) {
  const ToyModel model;
  CheckGradient(model, *MakeFullTuning(model.weights));
}

TEST(LowRankTuningTest, GradientIsTheSlopeOfTheLoss) {
  const ToyModel model;
  auto tuning = LowRankTuning::Create({model.weights[1], model.weights[2]},
                                      {.rank = 3, .alpha = 5, .seed = 4});
  ASSERT_TRUE(tuning.ok()) << tuning.status();
  for (const auto& factors : (*tuning)->factors()) {
    factors.b.fill_(0.1);  // at B = 0 the slope of A is zero
  }
  (*tuning)->Apply();
  CheckGradient(model, **tuning);
}

TEST(LowRankTuningTest, StartsAtTheBase) {
  const ToyModel model;
  const at::Tensor before = model.weights[1].tensor.detach().clone();
  auto tuning = LowRankTuning::Create({model.weights[1]}, {.rank = 2});
  ASSERT_TRUE(tuning.ok());
  (*tuning)->Apply();
  EXPECT_TRUE(at::equal(before, model.weights[1].tensor));
  EXPECT_GT((*tuning)->factors()[0].a.abs().max().item<double>(), 0);
}

TEST(LowRankTuningTest, RefusesRanksThatCannotBe) {
  const ToyModel model;
  for (const int64_t rank : {0, 33}) {
    const auto tuning =
        LowRankTuning::Create({model.weights[0]}, {.rank = rank});
    EXPECT_EQ(tuning.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(SparseTuningTest, TouchesOnlyMaskedValues) {
  const ToyModel model;
  const at::Tensor before = model.weights[1].tensor.detach().clone();
  auto tuning =
      SparseTuning::Create({model.weights[0], model.weights[1]}, {2, 96, 131});
  ASSERT_TRUE(tuning.ok()) << tuning.status();
  CheckGradient(model, **tuning);
  for (float& value : (*tuning)->values()) value += 1;
  (*tuning)->Apply();
  const at::Tensor changed = at::ne(before, model.weights[1].tensor);
  EXPECT_EQ(changed.sum().item<int64_t>(), 2);
  EXPECT_TRUE(changed[0][0].item<bool>());
  EXPECT_TRUE(changed[5][5].item<bool>());
}

TEST(SparseTuningTest, RefusesMasksOutOfOrderOrRange) {
  const ToyModel model;
  for (const std::vector<int64_t>& mask :
       {std::vector<int64_t>{3, 3}, {-1}, {36}}) {
    EXPECT_EQ(SparseTuning::Create({model.weights[1]}, mask).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(SparseTuningTest, MaskTakesTheLargestAndTheFirstOfEquals) {
  EXPECT_THAT(LargestPositions({1, 5, 2, 5, 2, 2}, 3), ElementsAre(1, 2, 3));
  EXPECT_THAT(LargestPositions({1, 2}, 5), ElementsAre(0, 1));
}

TEST(LossGradientTest, DoesNotDependOnThreads) {
  const ToyModel model;
  const auto tuning = MakeFullTuning(model.weights);
  const auto windows = Windows(11);
  std::vector<float> one(tuning->weight_count());
  std::vector<float> three(tuning->weight_count());
  std::vector<float> fisher_one(tuning->weight_count());
  std::vector<float> fisher_three(tuning->weight_count());
  LossGradient single(model.forward(), *tuning, 4, 1);
  LossGradient triple(model.forward(), *tuning, 4, 3);
  EXPECT_EQ(*single.Compute(windows, absl::MakeSpan(one)),
            *triple.Compute(windows, absl::MakeSpan(three)));
  EXPECT_EQ(one, three);
  ASSERT_TRUE(single.AddSquares(windows, absl::MakeSpan(fisher_one)).ok());
  ASSERT_TRUE(triple.AddSquares(windows, absl::MakeSpan(fisher_three)).ok());
  EXPECT_EQ(fisher_one, fisher_three);
}

TEST(LossGradientTest, FisherIsTheSumOfSquaredGradients) {
  const ToyModel model;
  const auto tuning = MakeFullTuning(model.weights);
  LossGradient gradient(model.forward(), *tuning, 2, 1);
  const auto windows = Windows(3);
  std::vector<float> fisher(tuning->weight_count());
  ASSERT_TRUE(gradient.AddSquares(windows, absl::MakeSpan(fisher)).ok());
  std::vector<double> expected(tuning->weight_count());
  for (const auto& window : windows) {
    std::vector<float> g(tuning->weight_count());
    ASSERT_TRUE(gradient.Compute({window}, absl::MakeSpan(g)).ok());
    for (size_t i = 0; i < g.size(); ++i) {
      expected[i] += static_cast<double>(g[i]) * g[i];
    }
  }
  for (size_t i = 0; i < fisher.size(); ++i) {
    EXPECT_NEAR(fisher[i], expected[i], 1e-6 + 1e-4 * expected[i]);
  }
}

TEST(LossGradientTest, SaysWhenTheLossIsNotFinite) {
  const ToyModel model;
  const auto tuning = MakeFullTuning(model.weights);
  tuning->values()[0] = std::nanf("");
  tuning->values()[6 * 3] = std::nanf("");
  tuning->Apply();
  LossGradient gradient(model.forward(), *tuning, 2, 2);
  std::vector<float> g(tuning->weight_count());
  EXPECT_EQ(gradient.Compute(Windows(8), absl::MakeSpan(g)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace cairn
