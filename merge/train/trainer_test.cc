#include "merge/train/trainer.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "merge/train/low_rank_tuning.h"
#include "merge/train/testing/toy_model.h"

namespace cairn {
namespace {

using ::cairn::testing::ToyData;
using ::cairn::testing::ToyModel;
using ::testing::HasSubstr;

const TrainerOptions kOptions{
    .schedule = {.peak = 0.05, .steps = 40},
    .batch = 6,
    .window = 16,
    .seed = 5,
};

struct ToyRun {
  explicit ToyRun(int threads, bool low_rank = false)
      : tuning(low_rank ? *LowRankTuning::Create(model.weights, {.rank = 4})
                        : MakeFullTuning(model.weights)),
        gradient(model.forward(), *tuning, 3, threads),
        trainer(*tuning, gradient, data, kOptions) {}

  std::vector<double> Finish() {
    std::vector<double> losses;
    while (!trainer.done()) losses.push_back(*trainer.Step());
    return losses;
  }
  std::vector<float> values() const {
    const absl::Span<const float> span = std::as_const(*tuning).values();
    return {span.begin(), span.end()};
  }

  ToyModel model;
  TokenCorpus data = ToyData();
  std::unique_ptr<Tuning> tuning;
  LossGradient gradient;
  Trainer trainer;
};

TEST(TrainerTest, LossGoesDown) {
  for (const bool low_rank : {false, true}) {
    const std::vector<double> losses = ToyRun(1, low_rank).Finish();
    EXPECT_GT(losses.front(), 2.2);
    EXPECT_LT(losses.back(), 1.6);
  }
}

TEST(TrainerTest, SameBytesOnAnyNumberOfThreads) {
  ToyRun one(1), again(1), two(2);
  one.Finish();
  again.Finish();
  two.Finish();
  EXPECT_EQ(one.values(), again.values());
  EXPECT_EQ(one.values(), two.values());
}

TEST(TrainerTest, SameBytesAfterAnInterruption) {
  const std::string path = ::testing::TempDir() + "/state.safetensors";
  ToyRun whole(1), first(2), second(1);
  whole.Finish();
  for (int i = 0; i < 13; ++i) ASSERT_TRUE(first.trainer.Step().ok());
  ASSERT_TRUE(first.trainer.Save(path, "recipe").ok());
  ASSERT_TRUE(second.trainer.Restore(path, "recipe").ok());
  EXPECT_EQ(second.trainer.step(), 13);
  second.Finish();
  EXPECT_EQ(whole.values(), second.values());
}

TEST(TrainerTest, RefusesTheStateOfAnotherRun) {
  const std::string path = ::testing::TempDir() + "/other.safetensors";
  ToyRun run(1), low_rank(1, true);
  ASSERT_TRUE(run.trainer.Save(path, "recipe").ok());
  const absl::Status other = run.trainer.Restore(path, "another");
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(other.message()), HasSubstr(path));
  EXPECT_EQ(low_rank.trainer.Restore(path, "recipe").code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace cairn
