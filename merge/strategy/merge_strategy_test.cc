#include "merge/strategy/merge_strategy.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "gtest/gtest.h"

namespace cairn {
namespace {

using Values = std::vector<std::vector<float>>;

// All values of every input in memory, told in tiles of an odd size.
class FakeScan : public DeltaScan {
 public:
  FakeScan(const Values& values, int64_t elements)
      : values_(values), elements_(elements) {}
  size_t inputs() const override { return values_.size(); }
  int64_t elements() const override { return elements_; }
  absl::Status ForEachTile(const Visitor& visit) override {
    for (size_t input = 0; input < values_.size(); ++input) {
      absl::Span<const float> rest = values_[input];
      while (!rest.empty()) {
        const size_t n = std::min<size_t>(rest.size(), 7);
        visit(input, rest.subspan(0, n));
        rest.remove_prefix(n);
      }
    }
    return absl::OkStatus();
  }

 private:
  const Values& values_;
  int64_t elements_;
};

std::vector<float> Merge(const std::string& name,
                         const std::map<std::string, std::string>& parameters,
                         const Values& values, int64_t elements) {
  auto strategy = MakeMergeStrategy(name, parameters,
                                    std::vector<double>(values.size(), 1.0));
  EXPECT_TRUE(strategy.ok()) << strategy.status();
  FakeScan scan(values, elements);
  EXPECT_TRUE((*strategy)->Prepare(scan).ok());
  std::vector<TileDelta> deltas;
  for (size_t i = 0; i < values.size(); ++i) deltas.push_back({i, values[i]});
  std::vector<float> out(values[0].size(), 99.0f);
  (*strategy)->Combine(deltas, absl::MakeSpan(out));
  return out;
}

Values RandomValues(size_t inputs, size_t elements) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  Values values(inputs, std::vector<float>(elements));
  for (auto& v : values) {
    for (float& x : v) x = normal(random);
  }
  return values;
}

// The paper's steps, written down plainly in double.
std::vector<double> ReferenceTies(const Values& values, double density,
                                  double lambda, size_t total) {
  const auto keep = static_cast<size_t>(density * static_cast<double>(total));
  Values trimmed = values;
  for (auto& v : trimmed) {
    std::vector<float> magnitudes;
    for (float x : v) magnitudes.push_back(std::fabs(x));
    magnitudes.resize(total, 0.0f);
    std::sort(magnitudes.rbegin(), magnitudes.rend());
    const float threshold = magnitudes[keep - 1];
    for (float& x : v) {
      if (std::fabs(x) < threshold) x = 0;
    }
  }
  std::vector<double> merged(values[0].size(), 0.0);
  for (size_t i = 0; i < merged.size(); ++i) {
    double sum = 0, agreeing = 0;
    int count = 0;
    for (auto& v : trimmed) sum += static_cast<double>(v[i]);
    for (auto& v : trimmed) {
      if (static_cast<double>(v[i]) * sum > 0) {
        agreeing += static_cast<double>(v[i]);
        ++count;
      }
    }
    if (count > 0) merged[i] = lambda * agreeing / count;
  }
  return merged;
}

TEST(MergeStrategyTest, AverageGivesEachInputItsShare) {
  EXPECT_EQ(Merge("average", {}, {{1, 2}, {3, 6}}, 2),
            (std::vector<float>{2, 4}));
}

TEST(MergeStrategyTest, TaskArithmeticScalesTheSum) {
  EXPECT_EQ(Merge("task_arithmetic", {{"lambda", "0.5"}}, {{1, 2}, {3, 6}}, 2),
            (std::vector<float>{2, 4}));
}

TEST(MergeStrategyTest, CoefficientsAreTheFinalFactors) {
  auto average = MakeMergeStrategy("average", {}, {1.0, 3.0});
  EXPECT_EQ((*average)->Coefficients(), (std::vector<double>{0.5, 1.5}));
  auto ties = MakeMergeStrategy("ties", {{"lambda", "0.4"}}, {1.0, 2.0});
  EXPECT_EQ((*ties)->Coefficients(), (std::vector<double>{0.4, 0.8}));
}

TEST(MergeStrategyTest, DefaultsAreRecorded) {
  auto ties = MakeMergeStrategy("ties", {{"lambda", "0.4"}}, {1.0});
  EXPECT_EQ((*ties)->parameters(), (std::map<std::string, std::string>{
                                       {"density", "0.2"}, {"lambda", "0.4"}}));
}

TEST(MergeStrategyTest, TiesFollowsThePaper) {
  const Values values = RandomValues(5, 997);
  for (size_t total : {size_t{997}, size_t{4000}}) {
    const std::vector<float> got =
        Merge("ties", {{"lambda", "0.7"}, {"density", "0.15"}}, values,
              static_cast<int64_t>(total));
    const std::vector<double> want = ReferenceTies(values, 0.15, 0.7, total);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(got[i]), want[i], 1e-6) << i;
    }
  }
}

TEST(MergeStrategyTest, TiesKeepsEverythingThatEqualsTheThreshold) {
  // Two of five are asked for; three share the second place.
  EXPECT_EQ(Merge("ties", {{"density", "0.4"}}, {{5, 3, -3, 3, 1}}, 5),
            (std::vector<float>{5, 3, -3, 3, 0}));
}

TEST(MergeStrategyTest, TiesKeepsAllOfAnUpdateThatIsSmallerThanItsShare) {
  EXPECT_EQ(Merge("ties", {}, {{1e-6f, -2, 0}}, 1000),
            (std::vector<float>{1e-6f, -2, 0}));
}

TEST(MergeStrategyTest, RefusesWhatItDoesNotKnowByName) {
  auto message = [](const auto& result) {
    return std::string(result.status().message());
  };
  EXPECT_NE(message(MakeMergeStrategy("slerp", {}, {1.0})).find("\"slerp\""),
            std::string::npos);
  EXPECT_NE(message(MakeMergeStrategy("average", {{"lambda", "1"}}, {1.0}))
                .find("\"lambda\""),
            std::string::npos);
  EXPECT_NE(message(MakeMergeStrategy("ties", {{"density", "1.5"}}, {1.0}))
                .find("density"),
            std::string::npos);
  EXPECT_NE(
      message(MakeMergeStrategy("task_arithmetic", {{"lambda", "nan"}}, {1.0}))
          .find("lambda"),
      std::string::npos);
  EXPECT_FALSE(MakeMergeStrategy("average", {}, {}).ok());
}

}  // namespace
}  // namespace cairn
