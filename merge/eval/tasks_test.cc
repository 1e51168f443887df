// Suites for models other than those that score texts.
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
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/eval/evaluate.h"
#include "merge/eval/report_json.h"
#include "merge/model/load_model.h"
#include "merge/model/testing/tiny_llama.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr char kBert[] =
    R"({"architectures": ["BertForSequenceClassification"], "vocab_size": 9,
        "hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1,
        "num_attention_heads": 2, "max_position_embeddings": 12,
        "num_labels": 3})";
constexpr char kVit[] =
    R"({"architectures": ["ViTForImageClassification"], "image_size": 4,
        "patch_size": 2, "hidden_size": 8, "intermediate_size": 6,
        "num_hidden_layers": 1, "num_attention_heads": 2, "num_labels": 3})";
constexpr char kClip[] =
    R"({"architectures": ["CLIPModel"], "projection_dim": 5, "text_config":
        {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 6,
         "num_hidden_layers": 1, "num_attention_heads": 2,
         "max_position_embeddings": 6, "eos_token_id": 8}, "vision_config":
        {"image_size": 4, "patch_size": 2, "hidden_size": 8,
         "intermediate_size": 6, "num_hidden_layers": 1,
         "num_attention_heads": 2}})";
constexpr char kT5[] =
    R"({"architectures": ["T5ForConditionalGeneration"], "vocab_size": 9,
        "d_model": 8, "d_kv": 4, "d_ff": 6, "num_layers": 1, "num_heads": 2,
        "pad_token_id": 0, "eos_token_id": 1})";

std::unique_ptr<Model> MakeRandom(const std::string& config_json) {
  std::unique_ptr<Model> model = *MakeModel(config_json, {});
  at::manual_seed(4);
  ParameterMap values;
  for (const ParameterSpec& spec : model->parameter_specs()) {
    values[spec.name] = at::randn(spec.shape);
  }
  EXPECT_TRUE(model->Fill(std::move(values)).ok());
  return model;
}

// A suite whose split "gate" holds `items`; `files` lie beside it.
Suite MakeSuite(const std::string& kind, const std::string& metric,
                const std::string& items, FileMap files = {},
                const std::string& more = "") {
  files["suite.yaml"] = MakeMemorySource(
      absl::StrCat("name: s\nkind: ", kind, "\nmetric: ", metric,
                   "\nsplits: {gate: items.jsonl}\n", more));
  files["items.jsonl"] = MakeMemorySource(items);
  return *Suite::Open(std::move(files));
}

// Images "a" and "b" of [3, 4, 4], and "wide" of [3, 4, 6].
FileMap Images() {
  at::manual_seed(5);
  FileMap files =
      testing::MakeCheckpointFiles("{}", {{"a", at::randn({3, 4, 4})},
                                          {"b", at::randn({3, 4, 4})},
                                          {"wide", at::randn({3, 4, 6})},
                                          {"flat", at::randn({4, 4})}});
  return {{"pixels.safetensors", files.at("model.safetensors")}};
}

std::string ImageItem(const std::string& id, const std::string& reference,
                      int label = 1) {
  return absl::StrCat("{\"id\": \"", id, "\", \"pixel_values\": \"", reference,
                      "\", \"label\": ", label, "}\n");
}

void ExpectRefused(const absl::StatusOr<SplitReport>& report,
                   absl::StatusCode code, const std::string& named) {
  EXPECT_EQ(report.status().code(), code) << report.status();
  EXPECT_THAT(std::string(report.status().message()), HasSubstr(named));
}

TEST(ClassificationTest, ScoresEveryClass) {
  const std::unique_ptr<Model> model = MakeRandom(kBert);
  const Suite suite = MakeSuite(
      "classification", "acc",
      "{\"id\": \"a\", \"input_ids\": [1, 2, 3], \"label\": 2}\n"
      "{\"id\": \"b\", \"input_ids\": [1, 2, 3, 0, 0], \"attention_mask\": "
      "[1, 1, 1, 0, 0], \"label\": 0}\n");
  absl::StatusOr<SplitReport> report = EvaluateSuite(*model, suite, "gate", {});
  ASSERT_TRUE(report.ok()) << report.status();
  const std::vector<double>& plain = report->items[0].choice_logprobs;
  const std::vector<double>& padded = report->items[1].choice_logprobs;
  ASSERT_EQ(plain.size(), 3U);
  EXPECT_EQ(report->items[0].logprob_sum, plain[2]);
  EXPECT_EQ(report->items[0].tokens, 1);
  double sum = 0;
  for (size_t i = 0; i < 3; ++i) {
    sum += std::exp(plain[i]);
    EXPECT_NEAR(plain[i], padded[i], 1e-5);
  }
  EXPECT_NEAR(sum, 1.0, 1e-6);
  const int right = static_cast<int>(*report->items[0].is_correct) +
                    static_cast<int>(*report->items[1].is_correct);
  EXPECT_EQ(report->value, right / 2.0);
}

TEST(ClassificationTest, RefusesWhatTheModelDoesNotTake) {
  const std::unique_ptr<Model> model = MakeRandom(kBert);
  struct Case {
    std::string item;
    absl::StatusCode code;
    std::string named;
  };
  const auto unfit = absl::StatusCode::kUnimplemented;
  const auto damaged = absl::StatusCode::kDataLoss;
  for (const Case& c :
       {Case{R"("input_ids": [9], "label": 0)", unfit, "9 tokens"},
        Case{R"("input_ids": [1], "label": 3)", unfit, "`label` 3"},
        Case{R"("input_ids": [1], "token_type_ids": [2], "label": 0)", unfit,
             "token_type_ids"},
        Case{R"("input_ids": [1], "attention_mask": [1, 1], "label": 0)",
             damaged, "attention_mask"},
        Case{R"("input_ids": [1], "attention_mask": [0], "label": 0)", damaged,
             "attention_mask"},
        Case{R"("input_ids": [], "label": 0)", damaged, "input_ids"},
        Case{R"("input_ids": [1], "label": -1)", damaged, "label"},
        Case{R"("input_ids": [1,1,1,1,1,1,1,1,1,1,1,1,1], "label": 0)", unfit,
             "12 at most"}}) {
    const std::string items = absl::StrCat("{\"id\": \"x\", ", c.item, "}\n");
    const absl::StatusOr<SplitReport> report = EvaluateSuite(
        *model, MakeSuite("classification", "acc", items), "gate", {});
    ExpectRefused(report, c.code, c.named);
    ExpectRefused(report, c.code, "items.jsonl:1: item `x`");
  }
}

TEST(ImageTest, ClassifiesWithTheModelsHead) {
  const std::unique_ptr<Model> model = MakeRandom(kVit);
  absl::StatusOr<SplitReport> report =
      EvaluateSuite(*model,
                    MakeSuite("classification", "acc",
                              ImageItem("x", "pixels.safetensors#a") +
                                  ImageItem("y", "pixels.safetensors#b"),
                              Images()),
                    "gate", {.threads = 2, .progress = nullptr});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->items[0].choice_logprobs.size(), 3U);
  EXPECT_NE(report->items[0].logprob_sum, report->items[1].logprob_sum);
}

TEST(ImageTest, RefusesImagesByName) {
  const std::unique_ptr<Model> model = MakeRandom(kVit);
  struct Case {
    std::string reference;
    absl::StatusCode code;
    std::string named;
  };
  for (const Case& c :
       {Case{"pixels.safetensors#wide", absl::StatusCode::kUnimplemented,
             "[3, 4, 6]"},
        Case{"pixels.safetensors#flat", absl::StatusCode::kDataLoss, "[4, 4]"},
        Case{"pixels.safetensors#c", absl::StatusCode::kDataLoss, "tensor c"},
        Case{"none.safetensors#a", absl::StatusCode::kNotFound,
             "none.safetensors"},
        Case{"../m.safetensors#a", absl::StatusCode::kDataLoss,
             "../m.safetensors"}}) {
    ExpectRefused(
        EvaluateSuite(*model,
                      MakeSuite("classification", "acc",
                                ImageItem("x", c.reference), Images()),
                      "gate", {}),
        c.code, c.named);
  }
}

TEST(ImageTest, ZeroShotPromptsAreTheClasses) {
  const std::unique_ptr<Model> model = MakeRandom(kClip);
  FileMap files = Images();
  const std::string items = ImageItem("x", "pixels.safetensors#a");
  ExpectRefused(
      EvaluateSuite(*model, MakeSuite("classification", "acc", items, files),
                    "gate", {}),
      absl::StatusCode::kUnimplemented, "classes");
  files["classes.jsonl"] = MakeMemorySource(
      "{\"id\": \"p\", \"input_ids\": [1, 8]}\n"
      "{\"id\": \"q\", \"input_ids\": [2, 3, 8]}\n");
  absl::StatusOr<SplitReport> report =
      EvaluateSuite(*model,
                    MakeSuite("classification", "acc", items, files,
                              "classes: classes.jsonl\n"),
                    "gate", {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->items[0].choice_logprobs.size(), 2U);
  files["classes.jsonl"] =
      MakeMemorySource("{\"id\": \"p\", \"input_ids\": [9]}\n");
  ExpectRefused(
      EvaluateSuite(*model,
                    MakeSuite("classification", "acc",
                              ImageItem("x", "pixels.safetensors#a", 0), files,
                              "classes: classes.jsonl\n"),
                    "gate", {}),
      absl::StatusCode::kUnimplemented, "classes.jsonl:1");
}

TEST(GenerationTest, StopsAtTheEndOrTheLimit) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  const Generated free = *GenerateGreedily(*model, {4, 5}, 6);
  const std::string target =
      absl::StrCat("[", absl::StrJoin(free.ids, ","), "]");
  absl::StatusOr<SplitReport> report = EvaluateSuite(
      *model,
      MakeSuite("generation", "exact_match",
                absl::StrCat("{\"id\": \"a\", \"context_ids\": [4, 5], "
                             "\"target_ids\": ",
                             target, ", \"max_new_tokens\": 6}\n",
                             "{\"id\": \"b\", \"context_ids\": [4, 5], "
                             "\"target_ids\": [], \"max_new_tokens\": 1}\n")),
      "gate", {});
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(*report->items[0].generated_ids, free.ids);
  EXPECT_TRUE(*report->items[0].is_correct);
  EXPECT_EQ(report->items[1].tokens,
            static_cast<int64_t>(report->items[1].generated_ids->size()));
  EXPECT_THAT(RowsJson({{"", *report}}),
              HasSubstr(absl::StrCat("\"generated_ids\":", target)));
}

TEST(GenerationTest, RefusesWhatIsTooLong) {
  const std::unique_ptr<LanguageModel> model = testing::MakeTinyLlama();
  ExpectRefused(
      EvaluateSuite(*model,
                    MakeSuite("generation", "exact_match",
                              "{\"id\": \"a\", \"context_ids\": [4, 5], "
                              "\"target_ids\": [], \"max_new_tokens\": 300}\n"),
                    "gate", {}),
      absl::StatusCode::kUnimplemented, "300 at most");
}

TEST(ContinuationTest, SharingAContextChangesNoBit) {
  const std::unique_ptr<LanguageModel> llama = testing::MakeTinyLlama();
  const std::unique_ptr<Model> t5 = MakeRandom(kT5);
  const std::vector<TokenIds> choices = {{3}, {4, 5, 6}, {7, 8}};
  for (const LanguageModel* model :
       {static_cast<const LanguageModel*>(llama.get()), t5->language()}) {
    const std::vector<double> together =
        *ScoreContinuations(*model, {1, 2, 3, 4}, choices);
    for (size_t i = 0; i < choices.size(); ++i) {
      EXPECT_EQ(ScoreContinuations(*model, {1, 2, 3, 4}, {choices[i]})->front(),
                together[i]);
    }
  }
}

TEST(ContinuationTest, AnEncoderReadsTheContext) {
  const std::unique_ptr<Model> t5 = MakeRandom(kT5);
  const LanguageModel& model = *t5->language();
  Memory memory = *model.Encode(IdTensor({2, 3, 4}).unsqueeze(0));
  const at::Tensor logprobs = at::log_softmax(
      (*model.Logits(*model.Hidden(IdTensor({0, 5}).unsqueeze(0), &memory)))[0],
      -1);
  EXPECT_NEAR(ScoreContinuations(model, {2, 3, 4}, {{5, 6}})->front(),
              logprobs[0][5].item<double>() + logprobs[1][6].item<double>(),
              1e-4);
}

TEST(OpenTaskTest, NamesKindAndModelWhereAHeadIsMissing) {
  const std::unique_ptr<Model> bert = MakeRandom(kBert);
  const std::unique_ptr<Model> vit = MakeRandom(kVit);
  for (const char* kind : {"perplexity", "multiple_choice", "generation"}) {
    const std::string metric = kind == std::string("perplexity") ? "perplexity"
                               : kind == std::string("generation")
                                   ? "exact_match"
                                   : "acc";
    for (const Model* model : {bert.get(), vit.get()}) {
      const absl::StatusOr<SplitReport> report =
          EvaluateSuite(*model, MakeSuite(kind, metric, ""), "gate", {});
      ExpectRefused(report, absl::StatusCode::kUnimplemented, kind);
      ExpectRefused(report, absl::StatusCode::kUnimplemented,
                    model->architecture());
    }
  }
}

}  // namespace
}  // namespace cairn
