// Methods beside the equations of their papers, whose results
// make_paper_goldens.py wrote.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/checkpoint.h"
#include "merge/method/testing/run_method.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class PaperParity : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path data =
        fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/papers";
    cases_ = Json::parse(ReadFile(data / "cases.json").value());
    FileMap files;
    files["model.safetensors"] =
        OpenFileSource(data / "tensors.safetensors").value();
    tensors_ = std::make_unique<Checkpoint>(
        Checkpoint::Open(std::move(files)).value());
  }

  std::vector<float> Values(const std::string& name) const {
    std::vector<float> values(
        static_cast<size_t>(tensors_->Find(name)->elements()));
    EXPECT_TRUE(tensors_->ReadFloats(name, 0, absl::MakeSpan(values)).ok());
    return values;
  }

  // The base and the models of a case, with its parameters.
  MethodTask Task(const MethodSpec& spec, const Json& json,
                  std::vector<std::vector<float>>& inputs) const {
    MethodTask task;
    task.base = 0;
    const std::string base = json["base"];
    task.shape = tensors_->Find(base)->shape;
    task.inputs.resize(1 + json["models"].size());
    inputs.push_back(Values(base));
    for (const auto& model : json["models"]) inputs.push_back(Values(model));
    for (const MethodParameter& p : spec.parameters) {
      if (p.is_file()) continue;
      if (p.scope == MethodParameter::Scope::kShared) {
        task.parameters[p.name] = json["parameters"].value(p.name, *p.fallback);
        continue;
      }
      for (size_t i = 1; i < task.inputs.size(); ++i) {
        task.inputs[i].parameters[p.name] =
            json["each"].contains(p.name)
                ? json["each"][p.name][i - 1].get<double>()
                : *p.fallback;
      }
    }
    return task;
  }

  void AddStatistics(const Json& json, MethodTask& task,
                     std::vector<std::vector<float>>& inputs) const {
    for (size_t i = 0; i < json.value("gram", Json::array()).size(); ++i) {
      const std::string name = json["gram"][i];
      task.inputs[i + 1].gram = std::make_shared<testing::FakeWholeTensor>(
          tensors_->Find(name)->shape, Values(name));
    }
    for (size_t i = 0; i < json.value("fisher", Json::array()).size(); ++i) {
      task.inputs.push_back({.fisher_of = i + 1});
      inputs.push_back(Values(json["fisher"][i]));
    }
  }

  Json cases_;
  std::unique_ptr<Checkpoint> tensors_;
};

TEST_F(PaperParity, EveryMethodFollowsItsEquations) {
  for (const auto& [name, json] : cases_.items()) {
    SCOPED_TRACE(name);
    const MethodSpec* spec = FindMethod(json["method"].get<std::string>());
    ASSERT_NE(spec, nullptr);
    std::vector<std::vector<float>> inputs;
    MethodTask task = Task(*spec, json, inputs);
    AddStatistics(json, task, inputs);
    auto got = testing::TryMethod(*spec, task, inputs, kSumBlock);
    ASSERT_TRUE(got.ok()) << got.status();
    const std::vector<float> want = Values(name);
    float largest = 0;
    for (float value : want) largest = std::max(largest, std::fabs(value));
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR((*got)[i], want[i], 1e-6f * largest) << i;
    }
  }
}

}  // namespace
}  // namespace cairn
