#include "merge/eval/items.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "core/base/status_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<std::vector<PerplexityItem>> ReadTexts(const std::string& file) {
  return ReadPerplexityItems(*MakeMemorySource(file), "gate.jsonl");
}

absl::StatusOr<std::vector<MultipleChoiceItem>> ReadChoices(
    const std::string& file) {
  return ReadMultipleChoiceItems(*MakeMemorySource(file), "gate.jsonl");
}

TEST(ReadPerplexityItemsTest, ReadsFieldsInOrder) {
  auto items = ReadTexts(
      "{\"id\": \"a\", \"input_ids\": [3, 4]}\n"
      "{\"id\": \"b\", \"group\": \"g\", \"input_ids\": [5, 6, 7], "
      "\"text\": \"x y\"}");
  ASSERT_TRUE(items.ok()) << items.status();
  ASSERT_EQ(items->size(), 2U);
  EXPECT_THAT((*items)[0].ids, ElementsAre(3, 4));
  EXPECT_FALSE((*items)[0].text.has_value());
  EXPECT_EQ((*items)[1].group, "g");
  EXPECT_EQ(*(*items)[1].text, "x y");
  EXPECT_EQ((*items)[1].where, "gate.jsonl:2: item `b`");
}

TEST(ReadPerplexityItemsTest, NamesLineAndField) {
  struct Case {
    std::string line, named;
  };
  for (const Case& c :
       {Case{R"({"id": "x", "input_ids": [5, 6)", "gate.jsonl:2"},
        Case{"null", "gate.jsonl:2"}, Case{"", "gate.jsonl:2"},
        Case{R"({"id": "x", "input_ids": [5, 6.5]})", "input_ids"},
        Case{R"({"id": "x", "input_ids": [5, true]})", "input_ids"},
        Case{R"({"id": "x", "input_ids": [5, -1]})", "-1"},
        Case{R"({"id": "x", "input_ids": [5, 18446744073709551617]})",
             "input_ids"},
        Case{R"({"id": "x", "input_ids": [5]})", "input_ids"},
        Case{R"({"id": "x", "input_ids": "5 6"})", "input_ids"},
        Case{R"({"id": "x"})", "input_ids"},
        Case{R"({"input_ids": [5, 6]})", "id"},
        Case{R"({"id": 3, "input_ids": [5, 6]})", "id"},
        Case{R"({"id": "", "input_ids": [5, 6]})", "id"},
        Case{R"({"id": "x", "input_ids": [5, 6], "labl": 1})", "labl"},
        Case{R"({"id": "x", "id": "y", "input_ids": [5, 6]})", "id"},
        Case{R"({"id": "x", "input_ids": [5, 6], "group": 2})", "group"},
        Case{R"({"id": "x", "input_ids": [5, 6], "text": ""})", "text"},
        Case{R"({"id": "first", "input_ids": [5, 6]})", "first"}}) {
    absl::Status status =
        ReadTexts("{\"id\": \"first\", \"input_ids\": [1, 2]}\n" + c.line +
                  "\n{\"id\": \"last\", \"input_ids\": [1, 2]}\n")
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << c.line;
    EXPECT_EQ(GetReason(status)->code, "MALFORMED_FILE");
    EXPECT_THAT(std::string(status.message()), HasSubstr("gate.jsonl:2"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.named));
  }
}

TEST(ReadPerplexityItemsTest, LeavesTextToBeTokenised) {
  const auto items = ReadTexts(R"({"id": "x", "text": "words"})");
  ASSERT_TRUE(items.ok()) << items.status();
  EXPECT_TRUE((*items)[0].ids.empty());
  EXPECT_EQ((*items)[0].text, "words");
}

TEST(ReadPerplexityItemsTest, RefusesAnEmptyFile) {
  for (const char* file : {"", "\n"}) {
    EXPECT_EQ(ReadTexts(file).status().code(), absl::StatusCode::kDataLoss);
  }
}

constexpr char kChoices[] =
    R"({"id": "x", "context_ids": [1], "choices_ids": [[2], [3, 4]], )";

TEST(ReadMultipleChoiceItemsTest, ReadsChoicesWithTheirText) {
  auto items = ReadChoices(std::string(kChoices) +
                           R"("choices": ["no", "yes"], "label": 1})");
  ASSERT_TRUE(items.ok()) << items.status();
  EXPECT_THAT(items->front().choices,
              ElementsAre(ElementsAre(2), ElementsAre(3, 4)));
  EXPECT_THAT(items->front().texts, ElementsAre("no", "yes"));
  EXPECT_EQ(items->front().label, 1);
}

TEST(ReadMultipleChoiceItemsTest, NamesTheField) {
  struct Case {
    std::string line, named;
  };
  const std::string head = kChoices;
  for (const Case& c :
       {Case{head + R"("label": 2})", "label"},
        Case{head + R"("label": -1})", "label"},
        Case{head + R"("label": 1.5})", "label"},
        Case{R"({"id": "x", "context_ids": [1], "choices_ids": [[2]]})",
             "label"},
        Case{head + R"("label": 0, "choices": ["a"]})", "choices"},
        Case{head + R"("label": 0, "choices": "ab"})", "choices"},
        Case{head + R"("label": 0, "context": "c"})", "context"},
        Case{R"({"id": "x", "context_ids": [], "choices_ids": [[2]],
                 "label": 0})",
             "context_ids"},
        Case{R"({"id": "x", "context_ids": [1], "choices_ids": [],
                 "label": 0})",
             "choices_ids"},
        Case{R"({"id": "x", "context_ids": [1], "choices_ids": [[2], []],
                 "label": 0})",
             "choices_ids"},
        Case{R"({"id": "x", "context_ids": [1], "choices_ids": [2],
                 "label": 0})",
             "choices_ids"}}) {
    std::string line = c.line;
    line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
    absl::Status status = ReadChoices(line).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << line;
    EXPECT_THAT(std::string(status.message()), HasSubstr("item `x`"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.named));
  }
}

}  // namespace
}  // namespace cairn
