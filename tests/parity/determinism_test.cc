// cairn-evaluate writes the same bytes whatever --batch and --threads are: for
// every kind of task, over families of every kind of model.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/file.h"
#include "core/tensor/dtype.h"
#include "core/tensor/safetensors.h"
#include "tests/support/process.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr size_t kItems = 9;

// Ids that are words to every model of tests/testdata/families, none of them
// special.
std::vector<int> Ids(int count, int seed) {
  std::vector<int> ids;
  for (int i = 0; i < count; ++i) ids.push_back(6 + (seed * 31 + i * 7) % 34);
  return ids;
}

struct Case {
  const char* name;  // what the suite is, and which model
  const char* kind;
  const char* metric;
  Json (*item)(int index);
  const char* families;  // by commas
  const char* dtype = "float32";
};

Json TextItem(int i) { return {{"input_ids", Ids(2 + i * 13, i)}}; }

Json ChoiceItem(int i) {
  return {{"context_ids", Ids(1 + i * 7, i)},
          {"choices_ids", {Ids(1, i), Ids(3, i + 1), Ids(2 + i, i + 2)}},
          {"label", i % 3}};
}

Json PromptItem(int i) {
  return {{"context_ids", Ids(1 + i * 3, i)},
          {"target_ids", Ids(2, i)},
          {"max_new_tokens", 5 + i}};
}

Json ClassItem(int i) {
  std::vector<int> ids = Ids(3 + i * 3, i), mask(ids.size(), 1);
  for (size_t last = ids.size() - 1; last > ids.size() - 3; --last) {
    ids[last] = 2;
    mask[last] = 0;
  }
  return {{"input_ids", ids}, {"attention_mask", mask}, {"label", i % 3}};
}

Json ImageItem(int i) {
  return {{"pixel_values", absl::StrCat("images.safetensors#image", i)},
          {"label", i % 3}};
}

constexpr Case kCases[] = {
    {"Texts", "perplexity", "perplexity", TextItem,
     "qwen3,mistral,gemma2,phi3_longrope,gpt2,neox,opt"},
    {"TextsInBf16", "perplexity", "perplexity", TextItem, "qwen2,gemma2,gpt2",
     "bfloat16"},
    {"Choices", "multiple_choice", "acc_mutual_info", ChoiceItem,
     "qwen2,gpt2,flan_t5"},
    {"Generation", "generation", "exact_match", PromptItem,
     "smollm3,phi3_longrope,neox,t5"},
    {"Classes", "classification", "acc", ClassItem, "bert,roberta,distilbert"},
    {"Images", "classification", "acc", ImageItem, "vit,clip"},
};

class DeterminismTest : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "determinism.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    ASSERT_TRUE(fs::create_directory(scratch_ / "suite"));
    WriteImages();
  }
  void TearDown() override { fs::remove_all(scratch_); }

  void Write(const std::string& name, const std::string& text) {
    ASSERT_TRUE(WriteFile(scratch_ / "suite" / name, text).ok());
  }

  void WriteImages() {
    std::vector<TensorSpec> specs;
    for (int i = 0; i < static_cast<int>(kItems); ++i) {
      specs.push_back({.name = absl::StrCat("image", i),
                       .dtype = DType::kF32,
                       .shape = {3, 8, 8}});
    }
    const auto layout = LayOutSafetensors(specs, {{"format", "pt"}});
    ASSERT_TRUE(layout.ok());
    std::string file = layout->header;
    for (int i = 0; i < static_cast<int>(kItems) * 3 * 8 * 8; ++i) {
      const float value = static_cast<float>(i * 37 % 101) / 50 - 1;
      file.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    Write("images.safetensors", file);
  }

  void WriteSuite(const Case& about, bool has_prompts) {
    Write("suite.yaml",
          absl::StrCat("name: s\nkind: ", about.kind, "\nmetric: ",
                       about.metric, "\nsplits: {gate: items.jsonl}\n",
                       has_prompts ? "classes: classes.jsonl\n" : ""));
    std::string items, classes;
    for (int i = 0; i < static_cast<int>(kItems); ++i) {
      Json item = about.item(i);
      item["id"] = absl::StrCat("i", i);
      absl::StrAppend(&items, item.dump(), "\n");
    }
    for (int i = 0; i < 3; ++i) {
      std::vector<int> prompt = Ids(9, i);
      prompt[6] = 5;  // ends a text of CLIP
      const Json line = {{"id", absl::StrCat("c", i)}, {"input_ids", prompt}};
      absl::StrAppend(&classes, line.dump(), "\n");
    }
    Write("items.jsonl", items);
    if (has_prompts) Write("classes.jsonl", classes);
  }

  // The rows and the report.
  std::string Evaluate(const std::string& family, const char* dtype, int batch,
                       int threads) {
    const std::string rows = scratch_ / "rows.jsonl";
    const testing::ProcessResult run = testing::RunProcess(
        {absl::StrCat(std::getenv("CAIRN_BIN"), "/cairn-evaluate"), "--json",
         "--model",
         absl::StrCat(std::getenv("CAIRN_SOURCE_DIR"),
                      "/tests/testdata/families/", family),
         "--suite", scratch_ / "suite", "--dtype", dtype, "--batch",
         absl::StrCat(batch), "--threads", absl::StrCat(threads), "--per-item",
         rows},
        {}, absl::Seconds(60));
    EXPECT_EQ(run.code, 0) << run.err;
    if (run.code != 0) return "";
    return *ReadFile(rows) + run.out;
  }

  fs::path scratch_;
};

struct Setting {
  int batch;
  int threads;
};
// Every kind of task is run in all these ways on its first family, and in the
// last two on the others.
constexpr Setting kRuns[] = {{4, 1},  {7, 1},  {1, 2}, {4, 2},
                         {32, 2}, {32, 1}, {7, 2}};
constexpr size_t kRunsOfOthers = 2;

// Items differ, so that one scored in another's place would show.
void ExpectDifferentScores(const std::string& rows) {
  const std::vector<std::string> lines = absl::StrSplit(rows, '\n');
  ASSERT_GT(lines.size(), kItems);
  std::set<double> scores;
  for (size_t i = 0; i < kItems; ++i) {
    scores.insert(Json::parse(lines[i])["logprob_sum"].get<double>());
  }
  EXPECT_GT(scores.size(), kItems / 2);
}

TEST_P(DeterminismTest, NeitherBatchNorThreadsChangeAByte) {
  const Case& about = GetParam();
  absl::Span<const Setting> runs = kRuns;
  for (const absl::string_view name : absl::StrSplit(about.families, ',')) {
    const std::string family(name);
    SCOPED_TRACE(family);
    WriteSuite(about, family == "clip");
    const std::string first = Evaluate(family, about.dtype, 1, 1);
    ExpectDifferentScores(first);
    for (const Setting& run : runs) {
      EXPECT_EQ(Evaluate(family, about.dtype, run.batch, run.threads), first)
          << "--batch " << run.batch << " --threads " << run.threads;
    }
    runs = runs.subspan(runs.size() - kRunsOfOthers);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeterminismTest, ::testing::ValuesIn(kCases),
                         [](const auto& about) {
                           return std::string(about.param.name);
                         });

}  // namespace
}  // namespace cairn
