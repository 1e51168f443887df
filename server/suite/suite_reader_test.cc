#include "server/suite/suite_reader.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_util.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr char kYaml[] =
    "name: prose\nkind: perplexity\nmetric: perplexity\n"
    "higher_is_better: false\ndescription: some text\nlicense: CC0-1.0\n"
    "splits: {search: s.jsonl, gate: g.jsonl, audit: a.jsonl}\n";
constexpr char kItem[] = R"({"id": "1", "input_ids": [1, 2, 3]})";

using Texts = std::map<std::string, std::string>;

Texts Whole() {
  return {{"suite.yaml", kYaml},
          {"s.jsonl", kItem},
          {"g.jsonl",
           absl::StrCat(kItem, "\n", R"({"id": "2", "text": "x"})", "\n\n")},
          {"a.jsonl", kItem}};
}

FileMap Open(const Texts& texts) {
  FileMap files;
  for (const auto& [path, text] : texts) files[path] = MakeMemorySource(text);
  return files;
}

TEST(SuiteReaderTest, CountsTheItemsOfEverySplit) {
  auto suite = ReadSuite(Open(Whole()));
  ASSERT_TRUE(suite.ok()) << suite.status();
  EXPECT_EQ(suite->kind, "perplexity");
  EXPECT_FALSE(suite->higher_is_better);
  EXPECT_EQ(suite->split_items["gate"], 2);
  EXPECT_EQ(suite->split_items["audit"], 1);
}

struct Bad {
  std::string what;
  std::string file;
  std::string text;  // replaces the file
  std::string message;
};

TEST(SuiteReaderTest, NamesFileLineAndFieldOfWhatIsWrong) {
  auto yaml = [](const char* from, const char* to) {
    return absl::StrReplaceAll(kYaml, {{from, to}});
  };
  const Bad cases[] = {
      {"unknown key", "suite.yaml", absl::StrCat(kYaml, "shots: 5\n"),
       "suite.yaml: line 8: 'shots' is not a key"},
      {"key twice", "suite.yaml", absl::StrCat(kYaml, "kind: perplexity\n"),
       "kind is given twice"},
      {"not yaml", "suite.yaml", "a: b: c", "not YAML"},
      {"a list", "suite.yaml", "- 1", "is not a mapping"},
      {"no name", "suite.yaml", yaml("name: prose\n", ""), "name is missing"},
      {"unknown kind", "suite.yaml", yaml("kind: perplexity", "kind: poetry"),
       "kind 'poetry' is none of"},
      {"metric of another kind", "suite.yaml",
       yaml("metric: perplexity", "metric: acc"), "metric 'acc'"},
      {"wrong direction", "suite.yaml",
       yaml("higher_is_better: false", "higher_is_better: true"),
       "higher_is_better is true"},
      {"no audit", "suite.yaml", yaml(", audit: a.jsonl", ""),
       "splits.audit is missing"},
      {"missing file", "suite.yaml", yaml("g.jsonl", "gone.jsonl"),
       "splits.gate names 'gone.jsonl'"},
      {"path out", "suite.yaml", yaml("g.jsonl", "../g.jsonl"),
       "splits.gate names '../g.jsonl'"},
      {"unknown split", "suite.yaml", yaml("search: s", "train: s"),
       "split 'train'"},
      {"prefix", "suite.yaml", absl::StrCat(kYaml, "prefix_ids: [-1]\n"),
       "prefix_ids must be"},
      {"not json", "g.jsonl", "{", "g.jsonl:1: is not a JSON object"},
      {"an array", "g.jsonl", "[1]", "g.jsonl:1: is not a JSON object"},
      {"no id", "g.jsonl",
       absl::StrCat(kItem, "\n", R"({"input_ids": [1, 2]})"),
       "g.jsonl:2: 'id' is missing"},
      {"id twice", "g.jsonl", absl::StrCat(kItem, "\n", kItem),
       "g.jsonl:2: id '1' was used before"},
      {"id is a number", "g.jsonl", R"({"id": 1, "input_ids": [1, 2]})",
       "g.jsonl:1: id must be a text"},
      {"unknown field", "g.jsonl",
       R"({"id": "1", "input_ids": [1, 2], "weight": 2})",
       "'weight' is not a field of a perplexity item"},
      {"negative id", "g.jsonl", R"({"id": "1", "input_ids": [1, -2]})",
       "input_ids must be a list of token ids"},
      {"fraction", "g.jsonl", R"({"id": "1", "input_ids": [1, 2.5]})",
       "input_ids must be"},
      {"one id", "g.jsonl", R"({"id": "1", "input_ids": [1]})",
       "input_ids must have at least 2 ids"},
      {"nothing to score", "g.jsonl", R"({"id": "1"})",
       "has neither input_ids nor text"},
      {"empty split", "g.jsonl", "\n\n", "g.jsonl: has no items"},
      {"too deep", "g.jsonl",
       absl::StrCat(R"({"id": "1", "input_ids": )", std::string(40, '['),
                    std::string(40, ']'), "}"),
       "nests deeper than 32"},
  };
  for (const Bad& bad : cases) {
    Texts texts = Whole();
    texts[bad.file] = bad.text;
    absl::Status status = ReadSuite(Open(texts)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message))
        << bad.what;
    ASSERT_TRUE(GetReason(status).has_value()) << bad.what;
    EXPECT_EQ(GetReason(status)->code, "MALFORMED_FILE") << bad.what;
  }
}

TEST(SuiteReaderTest, RefusesFilesThatAreNoData) {
  for (const char* path : {"run.py", "../x.jsonl", "notes.txt"}) {
    Texts texts = Whole();
    texts[path] = "x";
    absl::Status status = ReadSuite(Open(texts)).status();
    EXPECT_EQ(GetReason(status)->code, "FORBIDDEN_FILE") << path;
  }
  Texts texts = Whole();
  texts.erase("suite.yaml");
  EXPECT_THAT(std::string(ReadSuite(Open(texts)).status().message()),
              HasSubstr("suite.yaml: is missing"));
}

TEST(SuiteReaderTest, ChecksItemsOfOtherKinds) {
  const struct {
    const char* kind;
    const char* metric;
    const char* item;
    const char* message;  // empty: fine
  } cases[] = {
      {"multiple_choice", "acc",
       R"({"id":"1","context_ids":[1],"choices_ids":[[1],[2]],"label":1})", ""},
      {"multiple_choice", "acc_norm",
       R"({"id":"1","context":"a","choices":["b","c"],"label":0})", ""},
      {"multiple_choice", "acc",
       R"({"id":"1","context_ids":[1],"choices_ids":[[1],[2]],"label":2})",
       "label 2 is past the 2 choices"},
      {"multiple_choice", "acc",
       R"({"id":"1","context_ids":[1],"choices_ids":[[1],[]],"label":0})",
       "none empty"},
      {"multiple_choice", "acc",
       R"({"id":"1","context_ids":[1],"choices_ids":[[1],[2]]})",
       "'label' is missing"},
      {"multiple_choice", "acc",
       R"({"id":"1","context_ids":[1],"choices_ids":[[1],[2]],)"
       R"("choices":["a","b","c"],"label":0})",
       "different lengths"},
      {"classification", "acc", R"({"id":"1","input_ids":[1],"label":0})", ""},
      {"classification", "acc", R"({"id":"1","label":0})", "either input_ids"},
      {"classification", "acc",
       R"({"id":"1","input_ids":[1],"attention_mask":[1,1],"label":0})",
       "attention_mask is not as long"},
      {"classification", "acc",
       R"({"id":"1","input_ids":[1],"attention_mask":[2],"label":0})",
       "a list of 0 and 1"},
      {"generation", "exact_match",
       R"({"id":"1","context_ids":[1],"target_ids":[2]})", ""},
      {"generation", "exact_match",
       R"({"id":"1","context_ids":[1],"target_ids":[2],"max_new_tokens":0})",
       "a whole number from 1"},
      {"generation", "exact_match",
       R"({"id":"1","context_ids":[1],"target":"two"})",
       "'target_ids' is missing"},
      {"regression", "r2", R"({"id":"1","input_ids":[1],"target":0.5})", ""},
      {"regression", "r2", R"({"id":"1","input_ids":[1],"label":1})",
       "'label' is not a field"},
      {"regression", "r2", R"({"id":"1","input_ids":[1],"target":"1"})",
       "target must be a finite number"},
  };
  for (const auto& c : cases) {
    Texts texts = Whole();
    texts["suite.yaml"] = absl::StrReplaceAll(
        kYaml, {{"kind: perplexity", absl::StrCat("kind: ", c.kind)},
                {"metric: perplexity", absl::StrCat("metric: ", c.metric)},
                {"better: false", "better: true"}});
    for (const char* split : {"s.jsonl", "g.jsonl", "a.jsonl"}) {
      texts[split] = c.item;
    }
    absl::Status status = ReadSuite(Open(texts)).status();
    if (c.message[0] == '\0') {
      EXPECT_TRUE(status.ok()) << c.item << ": " << status;
    } else {
      EXPECT_THAT(std::string(status.message()), HasSubstr(c.message))
          << c.item;
    }
  }
}

TEST(SuiteReaderTest, ChecksHowTextsAreCompared) {
  const struct {
    const char* keys;
    const char* item;
    const char* message;  // empty: fine
  } cases[] = {
      {"until: [stop]\nfilters: [{function: lowercase}]\n",
       R"({"id":"1","context_ids":[1],"target":["one","two"]})", ""},
      {"until: [stop]\n", R"({"id":"1","context_ids":[1],"target_ids":[2]})",
       "'target' is missing"},
      {"until: [stop]\n", R"({"id":"1","context_ids":[1],"target":[]})",
       "target must be a text"},
      {"filters: [{function: shout}]\n",
       R"({"id":"1","context_ids":[1],"target":"a"})", "filters[0].function"},
      {"exact_match: {regexes_to_ignore: [\"(\"]}\n",
       R"({"id":"1","context_ids":[1],"target":"a"})", "regexes_to_ignore"},
  };
  for (const auto& c : cases) {
    Texts texts = Whole();
    texts["suite.yaml"] =
        absl::StrCat(absl::StrReplaceAll(
                         kYaml, {{"kind: perplexity", "kind: generation"},
                                 {"metric: perplexity", "metric: exact_match"},
                                 {"better: false", "better: true"}}),
                     c.keys);
    for (const char* split : {"s.jsonl", "g.jsonl", "a.jsonl"}) {
      texts[split] = c.item;
    }
    const absl::Status status = ReadSuite(Open(texts)).status();
    if (c.message[0] == '\0') {
      EXPECT_TRUE(status.ok()) << status;
    } else {
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
    }
  }
  Texts texts = Whole();
  texts["suite.yaml"] = absl::StrCat(kYaml, "until: [stop]\n");
  EXPECT_THAT(std::string(ReadSuite(Open(texts)).status().message()),
              HasSubstr("until is for kind generation"));
}

}  // namespace
}  // namespace cairn
