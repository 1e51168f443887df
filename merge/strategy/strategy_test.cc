#include "merge/strategy/strategy.h"

#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "gtest/gtest.h"
#include "merge/method/testing/run_method.h"
#include "merge/method/whole_model.h"

namespace cairn {
namespace {

using Values = std::vector<std::vector<float>>;

Values RandomValues(size_t inputs, size_t elements) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  Values values(inputs, std::vector<float>(elements));
  for (auto& v : values) {
    for (float& x : v) x = normal(random);
  }
  return values;
}

std::vector<float> Merge(const Strategy& strategy, const Values& deltas,
                         std::shared_ptr<const WholeModel> whole = nullptr) {
  std::vector<size_t> all;
  Values inputs = {std::vector<float>(deltas[0].size())};
  for (size_t i = 0; i < deltas.size(); ++i) {
    all.push_back(i);
    inputs.push_back(deltas[i]);
  }
  MethodTask task = strategy.TaskFor(
      {static_cast<int64_t>(deltas[0].size())}, all);
  task.whole = std::move(whole);
  return testing::TryMethod(strategy.method(), task, inputs, 4096).value();
}

// Records that are there already replay to the last bit: sums in the order of
// the updates, each delta multiplied once.
TEST(StrategyTest, SumsAreAsTheyAlwaysWere) {
  const Values deltas = RandomValues(3, 1000);
  for (const bool is_average : {true, false}) {
    const Strategy strategy =
        is_average ? Strategy::Make("average", {}, {1.0, 1.0, 1.0}).value()
                   : Strategy::Make("task_arithmetic", {{"lambda", "0.4"}},
                                    {1.0, 2.0, 0.3})
                         .value();
    const std::vector<double> coefficients = strategy.Coefficients();
    EXPECT_DOUBLE_EQ(coefficients[1], is_average ? 1.0 / 3 : 2.0 * 0.4);
    const std::vector<float> got = Merge(strategy, deltas);
    for (size_t i = 0; i < got.size(); ++i) {
      float sum = 0;
      for (size_t k = 0; k < deltas.size(); ++k) {
        volatile float product =
            static_cast<float>(coefficients[k]) * deltas[k][i];
        sum += product;
      }
      ASSERT_EQ(got[i], sum);
    }
  }
}

TEST(StrategyTest, TiesIsThePapersOverThresholds) {
  const Strategy ties =
      Strategy::Make("ties", {{"lambda", "0.7"}}, {1, 1, 1}).value();
  EXPECT_EQ(ties.whole_density(), 0.2);
  EXPECT_EQ(ties.parameters(),
            (StrategyParameters{{"density", "0.2"}, {"lambda", "0.7"}}));
  auto whole = std::make_shared<WholeModel>();
  whole->thresholds = {1, 2, 0.5};
  const Values deltas = {{3, 0.9f, -1, 5, 2}, {-2, 1.9f, 2, 0, -2},
                         {4, 1, -0.6f, 0.4f, 0.4f}};
  // Kept: 3 -2 4; 1; -1 2 -0.6; 5; 2 -2, which cancel out.
  const std::vector<float> want = {0.7f * 3.5f, 0.7f, 0.7f * 2, 0.7f * 5, 0};
  EXPECT_EQ(Merge(ties, deltas, whole), want);
  auto positive = std::make_shared<WholeModel>(*whole);
  positive->majority = 1;
  EXPECT_EQ(Merge(ties, deltas, positive)[4], 0.7f * 2);
}

TEST(StrategyTest, TheListIsThatOfTheMethods) {
  std::set<std::string> listed;
  for (const StrategySpec& spec : AllStrategies()) {
    SCOPED_TRACE(spec.name);
    listed.insert(spec.name);
    auto strategy = Strategy::Make(spec.name, {}, {1, 1, 1});
    ASSERT_TRUE(strategy.ok()) << strategy.status();
    const MethodSpec& method = strategy->method();
    if (spec.name == "average") continue;
    EXPECT_TRUE(method.is_on_deltas);
    for (const StrategyParameter& p : spec.parameters) {
      const MethodParameter* found = method.Find(p.name);
      if (p.name == "lambda" && found == nullptr) continue;
      ASSERT_NE(found, nullptr) << p.name;
      EXPECT_GE(p.least, found->least) << p.name;
      EXPECT_LE(p.most, found->most) << p.name;
      EXPECT_EQ(p.kind == StrategyParameter::Kind::kInteger,
                found->kind == MethodParameter::Kind::kInteger);
      EXPECT_EQ(p.kind == StrategyParameter::Kind::kBool,
                found->kind == MethodParameter::Kind::kBool);
    }
  }
  for (const MethodSpec& method : AllMethods()) {
    EXPECT_EQ(method.is_on_deltas, listed.contains(method.name))
        << method.name;
  }
}

// What a method makes of the deltas alone is what it adds to any base.
TEST(StrategyTest, NoMethodOnDeltasDependsOnTheBase) {
  const size_t elements = 12 * 20;
  const Values deltas = RandomValues(3, elements);
  Values with_base = {std::vector<float>(elements)};
  for (size_t i = 0; i < elements; ++i) {
    with_base[0][i] = static_cast<float>(i % 7) - 3;
  }
  Values without = {std::vector<float>(elements)};
  for (const auto& delta : deltas) {
    without.push_back(delta);
    with_base.push_back(with_base[0]);
    for (size_t i = 0; i < elements; ++i) with_base.back()[i] += delta[i];
  }
  for (const StrategySpec& spec : AllStrategies()) {
    const Strategy strategy =
        Strategy::Make(spec.name, {}, {1, 1, 1}).value();
    MethodTask task = strategy.TaskFor({12, 20}, {0, 1, 2});
    for (size_t k = 1; k < task.inputs.size(); ++k) {
      task.inputs[k].random_key = k;
    }
    Values alone = without, on_base = with_base;
    if (strategy.method().Find("fisher") != nullptr) {
      for (size_t k = 1; k <= deltas.size(); ++k) {
        task.inputs.push_back({.fisher_of = k});
        alone.push_back(deltas[k - 1]);
        for (float& value : alone.back()) value *= value;
        on_base.push_back(alone.back());
      }
    }
    const auto a =
        testing::TryMethod(strategy.method(), task, alone, 4096).value();
    const auto b =
        testing::TryMethod(strategy.method(), task, on_base, 4096).value();
    for (size_t i = 0; i < elements; ++i) {
      ASSERT_NEAR(a[i], b[i] - with_base[0][i], 2e-5f) << spec.name << " " << i;
    }
  }
}

TEST(StrategyTest, RefusesWhatItDoesNotKnowByName) {
  const auto message = [](const char* name, StrategyParameters parameters) {
    return std::string(
        Strategy::Make(name, parameters, {1.0}).status().message());
  };
  EXPECT_NE(message("slerp", {}).find("average, breadcrumbs"),
            std::string::npos);
  EXPECT_NE(message("average", {{"lambda", "1"}}).find("\"lambda\""),
            std::string::npos);
  EXPECT_NE(message("ties", {{"density", "1.5"}}).find("density"),
            std::string::npos);
  EXPECT_NE(message("ties", {{"density", "0"}}).find("density"),
            std::string::npos);
  EXPECT_NE(message("task_arithmetic", {{"lambda", "nan"}}).find("lambda"),
            std::string::npos);
  EXPECT_NE(message("krum", {{"faulty", "1.5"}}).find("integer"),
            std::string::npos);
  EXPECT_NE(message("ties", {{"duplicates", "maybe"}}).find("refuse"),
            std::string::npos);
  EXPECT_EQ(message("ties", {{"clip_norm", "median"}}), "");
  EXPECT_NE(message("model_stock", {}).find("at least 2 updates"),
            std::string::npos);
  EXPECT_FALSE(Strategy::Make("average", {}, {}).ok());
}

// The hub leaves one update out only where its worker can.
TEST(StrategyTest, TakesAsFewUpdatesAsTheListSays) {
  const auto check = [](const std::string& name, StrategyParameters given,
                        int least) {
    SCOPED_TRACE(name);
    EXPECT_EQ(UpdatesMin(name, given), least);
    EXPECT_EQ(
        Strategy::Make(name, given,
                       std::vector<double>(static_cast<size_t>(least) - 1))
            .ok(),
        false);
    const auto strategy = Strategy::Make(
        name, given, std::vector<double>(static_cast<size_t>(least), 1.0));
    ASSERT_TRUE(strategy.ok()) << strategy.status();
    if (strategy->method().Find("fisher") != nullptr) return;
    std::vector<size_t> all(static_cast<size_t>(least));
    std::iota(all.begin(), all.end(), size_t{0});
    const auto made = strategy->method().make(strategy->TaskFor({4, 3}, all));
    EXPECT_TRUE(made.ok()) << made.status();
  };
  for (const StrategySpec& spec : AllStrategies()) {
    check(spec.name, {}, spec.name == "model_stock" ? 2 : 1);
  }
  check("krum", {{"faulty", "1"}}, 5);
  check("multi_krum", {{"select", "4"}}, 4);
  check("multi_krum", {{"select", "4"}, {"faulty", "2"}}, 7);
}

TEST(StrategyTest, MethodsWithoutLambdaAreScaled) {
  const Strategy sce =
      Strategy::Make("sce", {{"lambda", "0.25"}}, {1.0, 1.0}).value();
  EXPECT_EQ(sce.scale(), 0.25f);
  EXPECT_EQ(Strategy::Make("pcb", {}, {1.0}).value().scale(), 1.0f);
}

}  // namespace
}  // namespace cairn
