#include "merge/method/tensor_method.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "merge/method/testing/method_cases.h"
#include "merge/method/testing/run_method.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

using testing::AddFisher;
using testing::InputsFor;
using testing::RandomTensors;
using testing::RunMethod;
using testing::Task;
using testing::Tensors;

TEST(TensorMethodTest, EveryMethodIsIndependentOfTiles) {
  for (const MethodSpec& spec : AllMethods()) {
    const size_t inputs = InputsFor(spec);
    const std::vector<int64_t> shape = {90, 300};
    Tensors tensors = RandomTensors(inputs, 90 * 300);
    MethodTask task = Task(spec, shape, inputs);
    AddFisher(spec, task, tensors);
    const std::vector<float> whole = RunMethod(spec, task, tensors, 90 * 300);
    for (const size_t tile : {kSumBlock, 3 * kSumBlock}) {
      EXPECT_EQ(RunMethod(spec, task, tensors, tile), whole) << spec.name;
    }
  }
}

TEST(TensorMethodTest, EveryMethodKeepsEqualInputs) {
  for (const MethodSpec& spec : AllMethods()) {
    if (spec.name == "multislerp") continue;  // has no direction then
    const size_t inputs = InputsFor(spec);
    Tensors tensors = RandomTensors(inputs, 600, 0.0f);
    MethodTask task = Task(spec, {20, 30}, inputs);
    AddFisher(spec, task, tensors);
    const std::vector<float> got = RunMethod(spec, task, tensors, 600);
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], tensors[0][i], 1e-5f) << spec.name;
    }
  }
}

TEST(TensorMethodTest, EveryMethodTakesOddShapes) {
  for (const MethodSpec& spec : AllMethods()) {
    for (const std::vector<int64_t>& shape :
         std::vector<std::vector<int64_t>>{{}, {1}, {37}, {3, 5, 7}}) {
      const size_t inputs = InputsFor(spec);
      MethodTask task = Task(spec, shape, inputs);
      const auto elements = static_cast<size_t>(task.elements());
      Tensors tensors = RandomTensors(inputs, elements);
      AddFisher(spec, task, tensors);
      for (float value : RunMethod(spec, task, tensors, 4096)) {
        EXPECT_TRUE(std::isfinite(value)) << spec.name << shape.size();
      }
    }
  }
}

TEST(TensorMethodTest, DellaKeepsLargeMagnitudesMoreOften) {
  const MethodSpec& spec = *FindMethod("della_linear");
  Tensors tensors = RandomTensors(2, 200 * 1000);
  std::fill(tensors[0].begin(), tensors[0].end(), 0.0f);
  MethodTask task = Task(spec, {200, 1000}, 2);
  task.parameters["rescale"] = 0;
  task.inputs[1].parameters = {
      {"weight", 1}, {"density", 0.5}, {"epsilon", 0.3}};
  const std::vector<float> got = RunMethod(spec, task, tensors, 200 * 1000);
  double kept[2] = {};
  for (size_t row = 0; row < 200; ++row) {
    std::vector<float> magnitudes;
    for (size_t i = 0; i < 1000; ++i) {
      magnitudes.push_back(std::fabs(tensors[1][row * 1000 + i]));
    }
    std::vector<float> sorted = magnitudes;
    std::sort(sorted.begin(), sorted.end());
    for (size_t i = 0; i < 1000; ++i) {
      const bool is_large = magnitudes[i] >= sorted[500];
      kept[is_large] += got[row * 1000 + i] != 0 ? 1 : 0;
    }
  }
  // Mean probabilities of the two halves are 0.35 and 0.65.
  EXPECT_NEAR(kept[0] / 100000, 0.35, 0.01);
  EXPECT_NEAR(kept[1] / 100000, 0.65, 0.01);
}

// One element of a base of 1 and three models.
float Merge(const std::string& method, const std::vector<float>& models,
            const std::map<std::string, double>& parameters) {
  const MethodSpec& spec = *FindMethod(method);
  Tensors tensors = {{1.0f}};
  for (float model : models) tensors.push_back({model});
  MethodTask task = Task(spec, {1}, tensors.size());
  for (const auto& [name, value] : parameters) task.parameters[name] = value;
  for (auto& input : task.inputs) {
    if (input.parameters.contains("weight")) input.parameters["weight"] = 1;
  }
  return RunMethod(spec, task, tensors, 1)[0];
}

TEST(TensorMethodTest, ElementwiseMethodsFollowTheirEquations) {
  // Task vectors 1, -3 and 2.5.
  const std::vector<float> models = {2, -2, 3.5};
  EXPECT_FLOAT_EQ(Merge("magmax", models, {{"lambda", 0.5}}), 1 - 1.5f);
  EXPECT_FLOAT_EQ(Merge("emr", models, {}), 1 + 2.5f);
  EXPECT_FLOAT_EQ(Merge("median", models, {}), 1 + 1.0f);
  EXPECT_FLOAT_EQ(Merge("median", {2, 5}, {}), 1 + 2.5f);
  EXPECT_FLOAT_EQ(Merge("trimmed_mean", models, {{"trim", 0.34}}), 2.0f);
  EXPECT_FLOAT_EQ(Merge("trimmed_mean", models, {{"trim", 0}}), 1 + 0.5f / 3);
  // |1| >= 0.4 x 0.5, |-3| >= 0.4 x 3.5, |2.5| >= 0.4 x 2: all three agree.
  EXPECT_FLOAT_EQ(Merge("consensus_ta", models, {{"agree", 3}, {"lambda", 1}}),
                  1.5f);
  EXPECT_FLOAT_EQ(Merge("consensus_ta", models, {{"agree", 4}, {"lambda", 1}}),
                  1.0f);
}

TEST(TensorMethodTest, MediansTakeNanForTheLargest) {
  const float nan = std::nanf("");
  EXPECT_FLOAT_EQ(Merge("median", {2, nan, 3.5}, {}), 1 + 2.5f);
  EXPECT_TRUE(std::isnan(Merge("median", {nan, nan, 3.5}, {})));
}

TEST(TensorMethodTest, GeometricMedianResistsAnOutlier) {
  const MethodSpec& spec = *FindMethod("geometric_median");
  Tensors tensors = RandomTensors(6, 500, 0.01f);
  std::fill(tensors[5].begin(), tensors[5].end(), 1e3f);
  MethodTask task = Task(spec, {500}, 6);
  for (auto& input : task.inputs) input.parameters["weight"] = 1;
  const std::vector<float> got = RunMethod(spec, task, tensors, 500);
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], tensors[0][i], 0.1f);
  }
}

TEST(TensorMethodTest, RefusesParametersThatDoNotGoTogether) {
  const MethodSpec& della = *FindMethod("della");
  MethodTask task = Task(della, {4, 4}, 3);
  task.inputs[1].parameters["epsilon"] = 0.5;
  EXPECT_FALSE(della.make(task).ok());
  const MethodSpec& linear = *FindMethod("linear");
  task = Task(linear, {4, 4}, 2);
  task.inputs[0].parameters["weight"] = 1;
  task.inputs[1].parameters["weight"] = -1;
  EXPECT_FALSE(linear.make(task).ok());
  for (const char* mark : {"merged", "momentum"}) {
    const MethodSpec& spec =
        *FindMethod(mark == absl::string_view("merged") ? "svc" : "diloco");
    task = Task(spec, {4, 4}, 3);
    task.inputs[1].parameters[mark] = task.inputs[2].parameters[mark] = 1;
    EXPECT_FALSE(spec.make(task).ok()) << mark;
  }
}

TEST(TensorMethodTest, StatisticsAreCheckedBeforeTheyCount) {
  const MethodSpec& fisher = *FindMethod("fisher");
  Tensors tensors = RandomTensors(3, 16);
  MethodTask task = Task(fisher, {4, 4}, 3);
  EXPECT_FALSE(fisher.make(task).ok());  // none is there
  AddFisher(fisher, task, tensors);
  EXPECT_TRUE(testing::TryMethod(fisher, task, tensors, 16).ok());
  tensors[4][7] = -1;
  EXPECT_FALSE(testing::TryMethod(fisher, task, tensors, 16).ok());

  const MethodSpec& regmean = *FindMethod("regmean");
  task = Task(regmean, {2, 3}, 3);
  const auto gram = [](int64_t size) {
    std::vector<float> values(static_cast<size_t>(size * size));
    for (int64_t i = 0; i < size; ++i) {
      values[static_cast<size_t>(i * size + i)] = 1;
    }
    return std::make_shared<testing::FakeWholeTensor>(
        std::vector<int64_t>{size, size}, std::move(values));
  };
  tensors = RandomTensors(3, 6);
  task.inputs[1].gram = gram(3);
  EXPECT_FALSE(regmean.make(task).ok());  // of one model only
  task.inputs[2].gram = gram(4);
  EXPECT_FALSE(regmean.make(task).ok());  // of a wrong shape
  task.inputs[2].gram = gram(3);
  // Of equal Gram matrices comes the mean.
  for (auto& input : task.inputs) input.parameters["weight"] = 1;
  MethodTask averaged = task;
  averaged.parameters["matrix"] = 0;
  const std::vector<float> got = RunMethod(regmean, task, tensors, 6);
  const std::vector<float> want = RunMethod(regmean, averaged, tensors, 6);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6f);
}

}  // namespace
}  // namespace cairn
