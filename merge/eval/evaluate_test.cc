#include "merge/eval/evaluate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_util.h"
#include "merge/eval/report_json.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

Suite MakeSuite(const std::string& kind, const std::string& metric,
                const std::string& items, const std::string& more = "") {
  FileMap files;
  files["suite.yaml"] = MakeMemorySource(
      absl::StrCat("name: s\nkind: ", kind, "\nmetric: ", metric,
                   "\nsplits: {gate: items.jsonl}\n", more));
  files["items.jsonl"] = MakeMemorySource(items);
  return *Suite::Open(std::move(files));
}

// Items of 2 to 140 tokens.
std::string SomeTexts(int count, const std::string& more = "") {
  std::string out;
  for (int i = 0; i < count; ++i) {
    std::vector<int> ids;
    for (int t = 0; t < 2 + i * 23 % 139; ++t) ids.push_back((t * i + t) % 13);
    absl::StrAppend(&out, "{\"id\": \"p", i, "\", \"group\": \"g", i % 3,
                    "\", \"input_ids\": [", absl::StrJoin(ids, ","), "]", more,
                    "}\n");
  }
  return out;
}

// The definition, over all logits at once.
double LogProbability(const LanguageModel& model,
                      const std::vector<int64_t>& ids, size_t first) {
  const at::Tensor input =
      at::tensor(std::vector<int64_t>(ids.begin(), ids.end() - 1));
  const at::Tensor logprobs = at::log_softmax(
      (*model.Forward(input.unsqueeze(0)))[0].to(at::kDouble), -1);
  double sum = 0;
  for (size_t i = first; i < ids.size(); ++i) {
    sum += logprobs[static_cast<int64_t>(i) - 1][ids[i]].item<double>();
  }
  return sum;
}

absl::StatusOr<SplitReport> ScoreTiny(const Suite& suite, int threads = 1) {
  return EvaluateSuite(*testing::MakeTinyLlama(), suite, "gate",
                       {.threads = threads, .progress = nullptr});
}

TEST(EvaluateTest, PerplexityFollowsItsDefinition) {
  const Suite suite =
      MakeSuite("perplexity", "perplexity",
                "{\"id\": \"a\", \"input_ids\": [1, 2, 3]}\n"
                "{\"id\": \"b\", \"group\": \"g\", \"input_ids\": [4, 5]}\n");
  absl::StatusOr<SplitReport> report = ScoreTiny(suite);
  ASSERT_TRUE(report.ok()) << report.status();
  std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const double a = LogProbability(*model, {1, 2, 3}, 1);
  const double b = LogProbability(*model, {4, 5}, 1);
  EXPECT_NEAR(report->items[0].logprob_sum, a, 1e-5);
  EXPECT_NEAR(report->items[1].logprob_sum, b, 1e-5);
  EXPECT_EQ(report->items[0].tokens, 2);
  EXPECT_EQ(report->items[1].group, "g");
  EXPECT_EQ(report->tokens, 3);
  EXPECT_NEAR(report->value, std::exp(-(a + b) / 3), 1e-4);
}

TEST(EvaluateTest, TextGivesMetricsByByteAndWord) {
  const Suite suite =
      MakeSuite("perplexity", "bits_per_byte",
                "{\"id\": \"a\", \"input_ids\": [1, 2], \"text\": \"é b\"}\n");
  absl::StatusOr<SplitReport> report = ScoreTiny(suite);
  ASSERT_TRUE(report.ok()) << report.status();
  const double sum = report->items[0].logprob_sum;
  EXPECT_DOUBLE_EQ(report->value, -sum / 4 / std::numbers::ln2);
  EXPECT_DOUBLE_EQ(report->metrics.at("byte_perplexity"), std::exp(-sum / 4));
  EXPECT_DOUBLE_EQ(report->metrics.at("word_perplexity"), std::exp(-sum / 2));
  EXPECT_DOUBLE_EQ(report->metrics.at("perplexity"), std::exp(-sum));
}

TEST(EvaluateTest, MetricsByTextNeedIt) {
  const Suite suite = MakeSuite("perplexity", "bits_per_byte", SomeTexts(3));
  absl::Status status = ScoreTiny(suite).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("item `p0`"));
}

constexpr char kItem[] =
    R"({"id": "m", "context_ids": [1, 2], "choices_ids": [[3], [4, 5], [6]], )"
    R"("choices": ["a", "a long choice", "éé"], "label": 1})";

TEST(EvaluateTest, ChoicesAreRankedByTheMetric) {
  std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const std::vector<std::vector<int64_t>> choices = {{3}, {4, 5}, {6}};
  std::vector<double> scores, bare;
  for (std::vector<int64_t> choice : choices) {
    choice.insert(choice.begin(), {1, 2});
    scores.push_back(LogProbability(*model, choice, 2));
    choice.erase(choice.begin(), choice.begin() + 2);
    choice.insert(choice.begin(), 7);
    bare.push_back(LogProbability(*model, choice, 1));
  }
  const double characters[] = {1, 13, 2}, bytes[] = {1, 13, 4};
  for (const char* metric :
       {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"}) {
    std::vector<double> ranked = scores;
    for (size_t i = 0; i < 3; ++i) {
      if (metric == std::string("acc_norm")) ranked[i] /= characters[i];
      if (metric == std::string("acc_bytes")) ranked[i] /= bytes[i];
      if (metric == std::string("acc_mutual_info")) ranked[i] -= bare[i];
    }
    const bool is_right =
        std::max_element(ranked.begin(), ranked.end()) - ranked.begin() == 1;
    absl::StatusOr<SplitReport> report = ScoreTiny(
        MakeSuite("multiple_choice", metric, kItem, "prefix_ids: [7]\n"));
    ASSERT_TRUE(report.ok()) << report.status();
    const ItemScore& item = report->items.front();
    EXPECT_EQ(*item.is_correct, is_right) << metric;
    EXPECT_EQ(report->value, is_right ? 1.0 : 0.0);
    EXPECT_EQ(item.tokens, 2);
    EXPECT_EQ(item.logprob_sum, item.choice_logprobs[1]);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(item.choice_logprobs[i], scores[i], 1e-5);
    }
  }
}

TEST(EvaluateTest, AnItemIsScoredByItself) {
  const std::string texts = SomeTexts(24);
  absl::StatusOr<SplitReport> first =
      ScoreTiny(MakeSuite("perplexity", "perplexity", texts));
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string rows = RowsJson({{"", *first}});
  for (int threads : {2, 3, 16}) {
    EXPECT_EQ(
        RowsJson({{"", *ScoreTiny(MakeSuite("perplexity", "perplexity", texts),
                                  threads)}}),
        rows);
  }
  const std::string last = texts.substr(texts.rfind("{\"id\""));
  absl::StatusOr<SplitReport> alone =
      ScoreTiny(MakeSuite("perplexity", "perplexity", last));
  EXPECT_EQ(alone->items[0].logprob_sum, first->items[23].logprob_sum);
}

TEST(EvaluateTest, RefusesItemsThatTheModelCannotTake) {
  struct Case {
    std::string ids, named;
  };
  std::vector<int> longest(302, 5);
  for (const Case& c :
       {Case{"4, 13", "13"}, Case{absl::StrJoin(longest, ","), "300"}}) {
    absl::Status status =
        ScoreTiny(MakeSuite("perplexity", "perplexity",
                            SomeTexts(2) + "{\"id\": \"x\", \"input_ids\": [" +
                                c.ids + "]}\n"))
            .status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()), HasSubstr("items.jsonl:3"));
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.named));
  }
  longest.pop_back();
  EXPECT_TRUE(ScoreTiny(MakeSuite("perplexity", "perplexity",
                                  "{\"id\": \"x\", \"input_ids\": [" +
                                      absl::StrJoin(longest, ",") + "]}\n"))
                  .ok());
}

TEST(EvaluateTest, RefusesKindsByName) {
  absl::Status status =
      ScoreTiny(MakeSuite("classification", "acc", "")).status();
  EXPECT_EQ(GetReason(status)->code, "UNSUPPORTED");
  EXPECT_THAT(std::string(status.message()), HasSubstr("classification"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("LlamaForCausalLM"));
}

TEST(EvaluateTest, MissingItemsFileIsNotFound) {
  Suite suite = MakeSuite("perplexity", "perplexity", SomeTexts(2));
  suite.files.erase("items.jsonl");
  EXPECT_EQ(ScoreTiny(suite).status().code(), absl::StatusCode::kNotFound);
}

TEST(EvaluateTest, OverflowIsTold) {
  std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  ASSERT_TRUE(
      model->SetParameter("lm_head.weight", at::full({13, 16}, 3e38)).ok());
  absl::Status status =
      EvaluateSuite(*model, MakeSuite("perplexity", "perplexity", SomeTexts(2)),
                    "gate", {})
          .status();
  EXPECT_EQ(GetReason(status)->code, "NON_FINITE");
}

TEST(EvaluateTest, TellsProgress) {
  std::atomic<int64_t> calls = 0, largest = 0;
  const EvaluateOptions options = {
      .threads = 3, .progress = [&](int64_t done, int64_t total) {
        ++calls;
        if (done == total) largest = done;
      }};
  ASSERT_TRUE(EvaluateSuite(*testing::MakeTinyLlama(),
                            MakeSuite("perplexity", "perplexity", SomeTexts(7)),
                            "gate", options)
                  .ok());
  EXPECT_EQ(calls, 7);
  EXPECT_EQ(largest, 7);
}

TEST(ReportJsonTest, WritesOneReportOrOneAnAdapter) {
  SplitReport report = {.suite = "s",
                        .kind = "perplexity",
                        .split = "gate",
                        .metric = "perplexity",
                        .value = 0.1,
                        .tokens = 3,
                        .metrics = {{"perplexity", 0.1}},
                        .items = {}};
  ItemScore item;
  item.id = "a";
  item.logprob_sum = -1.0 / 3;
  item.tokens = 3;
  report.items.push_back(item);
  EXPECT_EQ(
      RowsJson({{"", report}}),
      "{\"id\":\"a\",\"logprob_sum\":-0.3333333333333333,\"tokens\":3}\n");
  EXPECT_THAT(ReportsJson({{"", report}}), HasSubstr("\"value\": 0.1,"));
  const std::string two = ReportsJson({{"x", report}, {"y", report}});
  EXPECT_THAT(two, HasSubstr("\"items\": ["));
  EXPECT_THAT(two, HasSubstr("\"adapter\": \"y\""));
}

}  // namespace
}  // namespace cairn
