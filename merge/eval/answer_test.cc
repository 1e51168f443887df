// Suites whose answers are numbers, and texts compared by rules.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "merge/eval/continuation.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/report_json.h"
#include "merge/model/load_model.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string BertConfig(int labels) {
  return absl::StrCat(
      R"({"architectures": ["BertForSequenceClassification"], "vocab_size": 9,
          "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1,
          "num_attention_heads": 2, "max_position_embeddings": 12,
          "num_labels": )",
      labels, "}");
}

std::unique_ptr<Model> MakeBert(int labels) {
  std::unique_ptr<Model> model = *MakeModel(BertConfig(labels), {});
  at::manual_seed(4);
  ParameterMap values;
  for (const ParameterSpec& spec : model->parameter_specs()) {
    values[spec.name] = at::randn(spec.shape);
  }
  EXPECT_TRUE(model->Fill(std::move(values)).ok());
  return model;
}

Suite MakeSuite(const std::string& kind, const std::string& metric,
                const std::string& items, const std::string& more = "") {
  FileMap files;
  files["suite.yaml"] = MakeMemorySource(
      absl::StrCat("name: s\nkind: ", kind, "\nmetric: ", metric,
                   "\nsplits: {gate: items.jsonl}\n", more));
  files["items.jsonl"] = MakeMemorySource(items);
  return *Suite::Open(std::move(files));
}

std::string Numbers(const std::vector<double>& targets) {
  std::string items;
  for (size_t i = 0; i < targets.size(); ++i) {
    absl::StrAppend(&items, "{\"id\": \"n", i, "\", \"input_ids\": [1, ", i % 9,
                    ", 3], \"target\": ", targets[i], "}\n");
  }
  return items;
}

TEST(RegressionTest, MeasuresTheShareOfVarianceThatIsExplained) {
  const std::unique_ptr<Model> model = MakeBert(1);
  const std::vector<double> targets = {1.5, -2, 0, 4};
  const auto report = EvaluateSuite(
      *model, MakeSuite("regression", "r2", Numbers(targets)), "gate", {});
  ASSERT_TRUE(report.ok()) << report.status();
  double mean = 0, variance = 0, squares = 0, absolute = 0, points = 0;
  for (const double target : targets) mean += target / 4;
  for (const double target : targets) {
    variance += std::pow(target - mean, 2) / 4;
  }
  for (size_t i = 0; i < targets.size(); ++i) {
    const ItemScore& item = report->items[i];
    squares += std::pow(*item.prediction - targets[i], 2) / 4;
    absolute += std::abs(*item.prediction - targets[i]) / 4;
    points += *item.points / 4;
    EXPECT_FALSE(item.is_correct.has_value());
  }
  EXPECT_NEAR(report->value, 1 - squares / variance, 1e-12);
  EXPECT_NEAR(report->value, points, 1e-12);
  EXPECT_NEAR(report->metrics.at("mse"), squares, 1e-12);
  EXPECT_NEAR(report->metrics.at("mae"), absolute, 1e-12);
  EXPECT_THAT(RowsJson({{"", *report}}), HasSubstr("\"prediction\":"));
}

TEST(RegressionTest, PerfectPredictionsHaveOne) {
  const std::unique_ptr<Model> model = MakeBert(1);
  const auto first = EvaluateSuite(
      *model, MakeSuite("regression", "r2", Numbers({1, 2, 3})), "gate", {});
  ASSERT_TRUE(first.ok()) << first.status();
  std::string items;
  for (size_t i = 0; i < 3; ++i) {
    absl::StrAppend(&items, "{\"id\": \"n", i, "\", \"input_ids\": [1, ", i,
                    ", 3], \"target\": ");
    items += std::to_string(*first->items[i].prediction) + "}\n";
  }
  const auto again =
      EvaluateSuite(*model, MakeSuite("regression", "r2", items), "gate", {});
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_NEAR(again->value, 1, 1e-6);
}

TEST(RegressionTest, NamesWhatDoesNotFit) {
  const Suite suite = MakeSuite("regression", "r2", Numbers({1, 2}));
  auto report = EvaluateSuite(*MakeBert(3), suite, "gate", {});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("3 outputs"));
  report = EvaluateSuite(*testing::MakeTinyLlama(), suite, "gate", {});
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("regression"));
  // A number is no class.
  report =
      EvaluateSuite(*MakeBert(1),
                    MakeSuite("classification", "acc",
                              R"({"id": "a", "input_ids": [1], "label": 0})"),
                    "gate", {});
  EXPECT_EQ(report.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(report.status().message()), HasSubstr("regression"));
  for (const char* item :
       {R"({"id": "a", "input_ids": [1]})",
        R"({"id": "a", "input_ids": [1], "target": "2"})",
        R"({"id": "a", "input_ids": [1], "target": 2, "label": 1})",
        R"({"id": "a", "input_ids": [1], "target": 2})"}) {
    report = EvaluateSuite(*MakeBert(1), MakeSuite("regression", "r2", item),
                           "gate", {});
    EXPECT_EQ(report.status().code(), absl::StatusCode::kDataLoss) << item;
    EXPECT_THAT(std::string(report.status().message()), HasSubstr("item `a`"));
  }
}

// A vocabulary in which the token 4 is " w4", 5 is " w5", and so on; token 3
// is special.
FileMap Words() {
  std::string tokens;
  for (int i = 0; i < 64; ++i) {
    absl::StrAppend(&tokens, i == 0 ? "" : ", ", "\"\xC4\xA0w", i, "\": ", i);
  }
  return {
      {"tokenizer.json", MakeMemorySource(absl::StrCat(
                             R"({"added_tokens": [{"id": 3, "content": "</s>",
                   "special": true}], "decoder": {"type": "ByteLevel"},
                   "model": {"type": "BPE", "vocab": {)",
                             tokens, "}}}"))}};
}

// What the model writes after 4, 5, a second token that is another one.
Generated WrittenBy(const LanguageModel& model) {
  Generated free = *GenerateGreedily(model, {4, 5}, 6);
  EXPECT_GE(free.ids.size(), 2U);
  EXPECT_NE(free.ids[0], free.ids[1]);
  return free;
}

absl::StatusOr<SplitReport> Write(const LanguageModel& model,
                                  const std::string& targets,
                                  const std::string& rules) {
  return EvaluateSuite(
      model,
      MakeSuite("generation", "exact_match",
                absl::StrCat(R"({"id": "a", "context_ids": [4, 5], )",
                             R"("max_new_tokens": 6, "target": )", targets,
                             "}\n"),
                rules),
      "gate", {}, Words());
}

TEST(TextGenerationTest, EndsWithTheTokenThatMakesTheTextEnd) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const Generated free = WrittenBy(*model);
  const std::string first = absl::StrCat(" w", free.ids[0]);
  const auto report =
      Write(*model, absl::StrCat("\"", first, "\""),
            absl::StrCat("until: [\" w", free.ids[1], "\"]\n"));
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->items[0].tokens, 2);
  EXPECT_EQ(*report->items[0].generated_text, first);
  EXPECT_TRUE(*report->items[0].is_correct);
}

TEST(TextGenerationTest, ComparesFilteredTextsWithEveryTarget) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const Generated free = WrittenBy(*model);
  const auto report = Write(
      *model, absl::StrCat("[\"no\", \"W", free.ids[1], ".\"]"),
      "filters:\n"
      "  - {function: regex, regex_pattern: \"w\\\\d+\", group_select: 1}\n"
      "  - {function: take_first}\n"
      "exact_match: {ignore_case: true, ignore_punctuation: true}\n");
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(*report->items[0].filtered_text, absl::StrCat("w", free.ids[1]));
  EXPECT_TRUE(*report->items[0].is_correct);
  EXPECT_THAT(RowsJson({{"", *report}}), HasSubstr("\"filtered_text\":"));
}

TEST(TextItemsTest, SayHowToTokeniseInPython) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const std::pair<const char*, const char*> suites[] = {
      {"perplexity", R"({"id": "a", "text": "words"})"},
      {"multiple_choice",
       R"({"id": "a", "context": "x", "choices": ["y", "z"], "label": 0})"},
      {"generation", R"({"id": "a", "context": "x", "target_ids": [5]})"}};
  for (const auto& [kind, item] : suites) {
    const std::string metric = kind == std::string("perplexity") ? kind
                               : kind == std::string("generation")
                                   ? "exact_match"
                                   : "acc";
    const absl::Status status =
        EvaluateSuite(*model, MakeSuite(kind, metric, item), "gate", {})
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("AutoTokenizer"));
    EXPECT_THAT(std::string(status.message()), HasSubstr("items.jsonl:1"));
  }
}

TEST(TextGenerationTest, NamesWhatIsMissing) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const std::string by_text =
      R"({"id": "a", "context_ids": [4], "target": "x"})";
  const std::string by_ids =
      R"({"id": "a", "context_ids": [4], "target_ids": [5]})";
  const auto evaluate = [&](const std::string& item, const std::string& rules,
                            const FileMap& files) {
    return EvaluateSuite(*model,
                         MakeSuite("generation", "exact_match", item, rules),
                         "gate", {}, files)
        .status();
  };
  EXPECT_EQ(evaluate(by_text, "until: [x]\n", {}).code(),
            absl::StatusCode::kUnimplemented)
      << "no tokenizer.json";
  for (const absl::Status& status : {evaluate(by_ids, "until: [x]\n", Words()),
                                     evaluate(by_text, "", Words())}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("`target"));
  }
}

}  // namespace
}  // namespace cairn
