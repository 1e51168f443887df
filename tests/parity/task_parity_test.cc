// Item by item what lm-evaluation-harness makes of the same texts.
// make_task_goldens.py wrote what is compared with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/base/file.h"
#include "merge/eval/evaluate.h"
#include "merge/model/load_model.h"

namespace cairn {
namespace {

using Json = nlohmann::json;

std::string Root() {
  const char* source = std::getenv("CAIRN_SOURCE_DIR");
  return std::string(source == nullptr ? "." : source) +
         "/tests/testdata/tasks";
}

class TaskParityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Load("model");
    goldens_ = Json::parse(*ReadFile(Root() + "/goldens.json"));
  }

  void Load(const std::string& name) {
    auto checkpoint = OpenModelDirectory(Root() + "/" + name);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    files_ = checkpoint->files();
    auto model = LoadModel(*checkpoint, {});
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
  }

  SplitReport Evaluate(const std::string& name) {
    auto suite = Suite::OpenDirectory(Root() + "/suites/" + name);
    EXPECT_TRUE(suite.ok()) << suite.status();
    auto report = EvaluateSuite(*model_, *suite, "gate", {}, files_);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? *std::move(report) : SplitReport();
  }

  FileMap files_;
  std::unique_ptr<Model> model_;
  Json goldens_;
};

TEST_F(TaskParityTest, RollingPerplexityByWordByteAndBit) {
  const SplitReport report = Evaluate("rolling");
  const Json& golden = goldens_["rolling"];
  ASSERT_EQ(report.items.size(), golden["rows"].size());
  for (size_t i = 0; i < report.items.size(); ++i) {
    const double expected = golden["rows"][i]["logprob_sum"];
    EXPECT_NEAR(report.items[i].logprob_sum, expected, 1e-3) << i;
  }
  for (const auto& [metric, value] : golden["metrics"].items()) {
    const double expected = value;
    EXPECT_NEAR(report.metrics.at(metric) / expected, 1, 1e-5) << metric;
  }
}

TEST_F(TaskParityTest, ChoicesByEveryMetric) {
  const Json& golden = goldens_["choices"];
  for (const auto& [metric, value] : golden["metrics"].items()) {
    const SplitReport report = Evaluate(metric);
    ASSERT_GE(report.items.size(), 10U);
    for (size_t i = 0; i < report.items.size(); ++i) {
      const ItemScore& item = report.items[i];
      const Json& row = golden["rows"][item.id];
      ASSERT_EQ(item.choice_logprobs.size(), row["choice_logprobs"].size());
      for (size_t k = 0; k < item.choice_logprobs.size(); ++k) {
        const double expected = row["choice_logprobs"][k];
        EXPECT_NEAR(item.choice_logprobs[k], expected, 1e-3) << i << " " << k;
      }
      EXPECT_EQ(*item.is_correct, row[metric] == 1.0) << metric << " " << i;
    }
    EXPECT_NEAR(report.value, value.get<double>(), 1e-12) << metric;
  }
}

TEST_F(TaskParityTest, TextsUntilAStopFilteredAndCompared) {
  int correct = 0;
  for (const char* name : {"first-word", "last-match", "shout", "mapped"}) {
    const SplitReport report = Evaluate(name);
    const Json& golden = goldens_[name];
    ASSERT_EQ(report.items.size(), golden["rows"].size());
    for (size_t i = 0; i < report.items.size(); ++i) {
      const Json& row = golden["rows"][i];
      const ItemScore& item = report.items[i];
      EXPECT_EQ(*item.generated_text, row["generated_text"].get<std::string>())
          << name << i;
      EXPECT_EQ(*item.filtered_text, row["filtered_text"].get<std::string>())
          << name << i;
      EXPECT_EQ(*item.is_correct, row["correct"] == 1.0) << name << i;
      correct += *item.is_correct ? 1 : 0;
    }
    EXPECT_NEAR(report.value, golden["metrics"]["exact_match"].get<double>(),
                1e-12);
  }
  EXPECT_GT(correct, 10) << "the goldens have right answers";
}

// The tokenizer's program is on the PATH that the build sets for tests.
TEST_F(TaskParityTest, TextsAreTokenisedAsByTransformers) {
  Load("spm");
  const SplitReport rolling = Evaluate("text-rolling");
  const Json& texts = goldens_["text-rolling"];
  ASSERT_EQ(rolling.items.size(), texts["rows"].size());
  for (size_t i = 0; i < rolling.items.size(); ++i) {
    const double expected = texts["rows"][i]["logprob_sum"];
    EXPECT_NEAR(rolling.items[i].logprob_sum, expected, 1e-3) << i;
  }
  EXPECT_NEAR(rolling.value / texts["metrics"]["byte_perplexity"].get<double>(),
              1, 1e-5);
  const SplitReport choices = Evaluate("text-choices");
  const Json& golden = goldens_["text-choices"];
  ASSERT_EQ(choices.items.size(), golden["rows"].size());
  for (size_t i = 0; i < choices.items.size(); ++i) {
    const Json& row = golden["rows"][i];
    for (size_t k = 0; k < row["choice_logprobs"].size(); ++k) {
      const double expected = row["choice_logprobs"][k];
      EXPECT_NEAR(choices.items[i].choice_logprobs[k], expected, 1e-3)
          << i << " " << k;
    }
  }
  EXPECT_NEAR(choices.value, golden["metrics"]["acc"].get<double>(), 1e-12);
}

TEST_F(TaskParityTest, TextsWithoutATokenizerThatIsReadAreRefused) {
  auto suite = Suite::OpenDirectory(Root() + "/suites/text-rolling");
  ASSERT_TRUE(suite.ok()) << suite.status();
  const absl::Status refused =
      EvaluateSuite(*model_, *suite, "gate", {}, files_).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(refused.message()),
              ::testing::HasSubstr("tokenise once in Python"));
}

}  // namespace
}  // namespace cairn
