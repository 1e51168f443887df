#include "client/policy_yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(PolicyYamlTest, ReadsEveryKindOfField) {
  auto policy = ParsePolicy(R"(
alpha: 0.1
margin: {perplexity: 0.02, accuracy: 0.03}
eval_dtype: float32
batch: {count: 4, age: 12h, schedule: off}
lambda_grid: [0.5, 1.0]
approvals: 2
review_if: [no_claim]
public: true
)",
                            "policy.yaml");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->alpha(), 0.1);
  EXPECT_EQ(policy->margin().accuracy(), 0.03);
  EXPECT_EQ(policy->eval_dtype(), "float32");
  EXPECT_EQ(policy->batch().count(), 4);
  EXPECT_EQ(policy->batch().age_seconds(), 12 * 3600);
  EXPECT_THAT(policy->lambda_grid(), ElementsAre(0.5, 1.0));
  EXPECT_EQ(policy->approvals(), 2);
  EXPECT_THAT(policy->review_if(), ElementsAre("no_claim"));
  EXPECT_TRUE(policy->public_());
}

TEST(PolicyYamlTest, BatchesCanBeTurnedOff) {
  auto policy = ParsePolicy("batch: {count: off, age: off}", "p");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_TRUE(policy->has_batch());
  EXPECT_EQ(policy->batch().count(), 0);
  EXPECT_EQ(policy->batch().age_seconds(), 0);
}

TEST(PolicyYamlTest, AnEmptyFileIsTheDefaultPolicy) {
  auto policy = ParsePolicy("", "p");
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_EQ(policy->ByteSizeLong(), 0u);
}

struct BadPolicy {
  const char* text;
  const char* message;
};

TEST(PolicyYamlTest, NamesFileLineAndKeyOfAMistake) {
  const BadPolicy kBad[] = {
      {"\nalphabet: 1", "p:2: alphabet: unknown key"},
      {"margin: {perplexity: 0.1, f1: 0.2}", "margin.f1: unknown key"},
      {"alpha: many", "alpha: must be a number"},
      {"approvals: 1.5", "approvals: must be a whole number"},
      {"public: maybe", "public: must be true or false"},
      {"lambda_grid: 1", "lambda_grid: must be a list"},
      {"alpha: [1]", "alpha: must be a single value"},
      {"alpha: 1\nalpha: 2", "alpha: given twice"},
      {"batch: 8", "batch: must be a map"},
      {"batch: {count: x}", "batch.count: must be a whole number or off"},
      {"batch: {age: soon}", "batch.age: must be a time like 12h"},
      {"batch: {schedule: daily}", "batch.schedule: only `off`"},
      {"batch: {size: 1}", "batch.size: unknown key"},
      {"- a", "must be a map"},
      {"a: [", "p: "},
  };
  for (const BadPolicy& bad : kBad) {
    auto policy = ParsePolicy(bad.text, "p");
    EXPECT_TRUE(absl::IsInvalidArgument(policy.status())) << bad.text;
    EXPECT_THAT(policy.status().ToString(), HasSubstr(bad.message));
  }
}

TEST(PolicyYamlTest, TimesHaveUnits) {
  EXPECT_EQ(*ParseSeconds("90s"), 90);
  EXPECT_EQ(*ParseSeconds("30m"), 1800);
  EXPECT_EQ(*ParseSeconds("7d"), 7 * 86'400);
  for (const char* bad : {"", "7", "d", "-1d", "1w", "1.5h"}) {
    EXPECT_FALSE(ParseSeconds(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace cairn
