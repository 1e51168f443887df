#include "core/suite/text_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<TextRules> Read(const std::string& yaml) {
  TextRules rules;
  for (const auto& entry : YAML::Load(yaml)) {
    EXPECT_TRUE(TextRules::IsKey(entry.first.Scalar()));
    const absl::Status read = rules.Read(entry.first.Scalar(), entry.second);
    if (!read.ok()) return read;
  }
  return rules;
}

std::string Filtered(const std::string& filters, const std::string& text) {
  const auto rules = Read("filters: " + filters);
  EXPECT_TRUE(rules.ok()) << rules.status();
  return rules->Filter(text);
}

TEST(TextRulesTest, TextEndsBeforeTheFirstStop) {
  const auto rules = Read(R"(until: ["\n\n", "Q:"])");
  ASSERT_TRUE(rules.ok()) << rules.status();
  EXPECT_EQ(rules->Cut("forty-two\nQ: and\n\nmore"), "forty-two\n");
  EXPECT_EQ(rules->Cut("none"), "none");
  EXPECT_FALSE(rules->IsOver("a\nQ"));
  EXPECT_TRUE(rules->IsOver("a\nQ:"));
}

TEST(TextRulesTest, RegexTakesTheMatchAskedFor) {
  constexpr char kNumber[] =
      R"y([{function: regex, regex_pattern: "(-?[0-9.]+)", group_select: )y";
  EXPECT_EQ(Filtered(absl::StrCat(kNumber, "0}]"), "1 and -2.5"), "1");
  EXPECT_EQ(Filtered(absl::StrCat(kNumber, "-1}]"), "1 and -2.5"), "-2.5");
  EXPECT_EQ(Filtered(absl::StrCat(kNumber, "0}]"), "none"), "[invalid]");
  EXPECT_EQ(
      Filtered(R"([{function: regex, regex_pattern: "a", fallback: no}])", "b"),
      "no");
}

TEST(TextRulesTest, RegexTakesTheFirstGroupThatIsNotEmpty) {
  constexpr char kEither[] =
      R"y([{function: regex, regex_pattern: "is (\\d+)|= ?([a-z ]+)"}])y";
  EXPECT_EQ(Filtered(kEither, "it is 12"), "12");
  EXPECT_EQ(Filtered(kEither, "x =  twelve "), "twelve");
  EXPECT_EQ(
      Filtered(R"y([{function: regex, regex_pattern: "(a*)(b*)"}])y", "c"),
      "[invalid]");
}

TEST(TextRulesTest, FiltersPassInTurn) {
  EXPECT_EQ(Filtered("[{function: remove_whitespace}, {function: uppercase}, "
                     "{function: take_first}]",
                     " \xC2\xA0stra\xC3\x9F" "e \xC3\xA9 "),
            "STRASSE \xC3\x89");
  EXPECT_EQ(Filtered("[{function: lowercase}]", "\xCE\x9F\xCE\xA3"),
            "\xCE\xBF\xCF\x82")
      << "a last sigma, as Python's lower() has it";
  constexpr char kMap[] =
      R"([{function: map, mapping_dict: {A: "0", B: "1"},
           default_value: "?"}])";
  EXPECT_EQ(Filtered(kMap, "B"), "1");
  EXPECT_EQ(Filtered(kMap, "C"), "?");
}

TEST(TextRulesTest, MatchIgnoresWhatItIsToldTo) {
  EXPECT_FALSE(TextRules().Matches("Yes", "yes"));
  auto rules = Read("exact_match: {ignore_case: true}");
  EXPECT_TRUE(rules->Matches("Yes", "yes"));
  EXPECT_FALSE(rules->Matches("Yes.", "yes"));
  rules = Read("exact_match: {ignore_punctuation: true}");
  EXPECT_TRUE(rules->Matches("y.e-s!", "yes"));
  rules = Read("exact_match: {ignore_numbers: true}");
  EXPECT_TRUE(rules->Matches("a1b2", "ab"));
  rules = Read(R"(exact_match: {regexes_to_ignore: [",", "\\$", "\\.$"]})");
  EXPECT_TRUE(rules->Matches("$1,234.", "1234"));
}

TEST(TextRulesTest, NamesWhatIsWrong) {
  const struct {
    std::string yaml, named;
  } cases[] = {
      {"until: stop", "until"},
      {"until: [\"\"]", "not empty"},
      {"filters: {}", "filters"},
      {"filters: [{function: majority_vote}]", "filters[0].function"},
      {"filters: [{function: regex}]", "filters[0].regex_pattern"},
      {"filters: [{function: take_first}, {function: regex, regex_pattern: "
       "\"(?=a)\"}]",
       "filters[1].regex_pattern"},
      {absl::StrCat("filters: [{function: regex, regex_pattern: ",
                    std::string(1025, 'a'), "}]"),
       "1024 bytes"},
      {"filters: [{function: lowercase, twice: 1}]", "twice"},
      {"filters: [{function: map}]", "mapping_dict"},
      {"exact_match: {ignore_cases: true}", "ignore_cases"},
      {"exact_match: {ignore_case: 3}", "ignore_case"},
      {"exact_match: {regexes_to_ignore: [\"(\"]}", "regexes_to_ignore"},
  };
  for (const auto& wrong : cases) {
    const absl::Status status = Read(wrong.yaml).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << wrong.yaml;
    EXPECT_THAT(std::string(status.message()), HasSubstr(wrong.named));
  }
}

}  // namespace
}  // namespace cairn
