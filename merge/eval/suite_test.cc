#include "merge/eval/suite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/base/status_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kSound[] = R"(
name: perl
kind: multiple_choice
metric: acc_norm
higher_is_better: true
description: questions
license: CC0-1.0
prefix_ids: [0, 4]
splits: {search: s.jsonl, gate: sub/g.jsonl}
)";

TEST(SuiteDescriptionTest, ReadsEveryKey) {
  absl::StatusOr<SuiteDescription> suite = SuiteDescription::Parse(kSound);
  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->name, "perl");
  EXPECT_EQ(suite->kind, "multiple_choice");
  EXPECT_EQ(suite->metric, "acc_norm");
  EXPECT_TRUE(suite->higher_is_better);
  EXPECT_EQ(suite->description, "questions");
  EXPECT_EQ(suite->license, "CC0-1.0");
  EXPECT_THAT(*suite->prefix_ids, ElementsAre(0, 4));
  EXPECT_EQ(suite->splits.at("gate"), "sub/g.jsonl");
}

TEST(SuiteDescriptionTest, ChoosesTheSplit) {
  SuiteDescription suite = *SuiteDescription::Parse(kSound);
  EXPECT_EQ(*suite.ChooseSplit(""), "search");
  EXPECT_EQ(*suite.ChooseSplit("gate"), "gate");
  EXPECT_EQ(suite.ChooseSplit("audit").status().code(),
            absl::StatusCode::kInvalidArgument);
  suite.splits.erase("search");
  EXPECT_EQ(*suite.ChooseSplit(""), "gate");
  suite.splits["dev"] = "d.jsonl";
  EXPECT_EQ(*suite.ChooseSplit("dev"), "dev");
}

TEST(SuiteDescriptionTest, KnowsTheDirectionOfAMetric) {
  EXPECT_FALSE(SuiteDescription::Parse("{name: a, kind: perplexity, metric: "
                                       "perplexity, splits: {gate: g}}")
                   ->higher_is_better);
}

TEST(SuiteDescriptionTest, NamesWhatIsWrong) {
  struct Case {
    std::string yaml, named;
  };
  const std::string head = "name: a\nkind: perplexity\nmetric: perplexity\n";
  const std::string splits = "splits: {gate: g.jsonl}\n";
  for (const Case& c : {
           Case{"name: [a\nkind: }", "suite.yaml"},
           Case{"", "suite.yaml"},
           Case{"- a", "suite.yaml"},
           Case{head + splits + "metrc: acc\n", "metrc"},
           Case{head + splits + "name: b\n", "name"},
           Case{head, "splits"},
           Case{head + "splits: {}", "splits"},
           Case{head + "splits: {train: x}", "train"},
           Case{head + "splits: {gate: ../items.jsonl}", "../items.jsonl"},
           Case{head + "splits: {gate: /etc/passwd}", "/etc/passwd"},
           Case{head + splits + "classes: ../c.jsonl", "classes"},
           Case{head + splits + "higher_is_better: true", "higher_is_better"},
           Case{head + splits + "higher_is_better: 3", "higher_is_better"},
           Case{head + splits + "prefix_ids: [-1]", "prefix_ids"},
           Case{head + splits + "prefix_ids: []", "prefix_ids"},
           Case{head + splits + "description: [a]", "description"},
           Case{"name:\nkind: perplexity\nmetric: perplexity\n" + splits,
                "name"},
           Case{"name: a\nkind: vibes\nmetric: acc\n" + splits, "vibes"},
           Case{"name: a\nkind: perplexity\nmetric: acc\n" + splits, "acc"},
       }) {
    absl::Status status = SuiteDescription::Parse(c.yaml).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.yaml;
    EXPECT_EQ(GetReason(status)->code, "MALFORMED_FILE");
    EXPECT_THAT(std::string(status.message()), HasSubstr("suite.yaml"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.named));
  }
}

TEST(SuiteTest, NeedsADescription) {
  EXPECT_EQ(Suite::Open({}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Suite::OpenDirectory("/nowhere/suite").status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cairn
