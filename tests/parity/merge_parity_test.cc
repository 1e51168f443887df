// cairn-merge beside mergekit and peft, whose results make_merge_goldens.py
// wrote.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/checkpoint.h"
#include "tests/support/process.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

class MergeParity : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "merge.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    data_ = fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/merge";
  }
  void TearDown() override { fs::remove_all(scratch_); }

  template <typename Value = std::string>
  std::map<std::string, Value> List(const std::string& file) const {
    return nlohmann::json::parse(ReadFile(data_ / file).value())
        .get<std::map<std::string, Value>>();
  }

  static std::map<std::string, int64_t> TokensOf(const fs::path& tokenizer) {
    const auto json = nlohmann::json::parse(ReadFile(tokenizer).value());
    auto tokens = json["model"]["vocab"].get<std::map<std::string, int64_t>>();
    for (const auto& added : json["added_tokens"]) {
      tokens[added["content"]] = added["id"];
    }
    return tokens;
  }

  void Merge(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 std::string(std::getenv("CAIRN_BIN")) + "/cairn-merge");
    const testing::ProcessResult run =
        testing::RunProcess(flags, {}, absl::Seconds(30));
    ASSERT_EQ(run.code, 0) << run.err;
  }

  // Within 1e-6 of the tensor's largest magnitude or, where the reference
  // computes in BF16, one step of it: we sum in F32 and round once.
  static void ExpectNear(const Checkpoint& got, const Checkpoint& want,
                         bool is_bf16 = false, float tolerance = 1e-6f) {
    for (const CheckpointTensor& tensor : want.tensors()) {
      const CheckpointTensor* found = got.Find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      ASSERT_EQ(found->shape, tensor.shape) << tensor.name;
      ASSERT_EQ(found->dtype, tensor.dtype) << tensor.name;
      if (!IsNumeric(tensor.dtype)) continue;
      const auto count = static_cast<size_t>(tensor.elements());
      std::vector<float> a(count), b(count);
      ASSERT_TRUE(got.ReadFloats(tensor.name, 0, absl::MakeSpan(a)).ok());
      ASSERT_TRUE(want.ReadFloats(tensor.name, 0, absl::MakeSpan(b)).ok());
      float largest = 0;
      for (float value : b) largest = std::max(largest, std::fabs(value));
      for (size_t i = 0; i < count; ++i) {
        const float step = is_bf16 ? std::fabs(b[i]) / 128 : 0;
        ASSERT_NEAR(a[i], b[i], std::max(tolerance * largest, step))
            << tensor.name << " " << i;
      }
    }
  }

  Checkpoint Golden(const std::string& path) const {
    FileMap files;
    files["model.safetensors"] = OpenFileSource(data_ / path).value();
    return Checkpoint::Open(std::move(files)).value();
  }

  fs::path scratch_, data_;
};

TEST_F(MergeParity, EveryRecipeGivesWhatMergekitGives) {
  for (auto [name, text] : List("recipes.json")) {
    SCOPED_TRACE(name);
    for (const char* model : {"B", "M1", "M2", "M3"}) {
      text = absl::StrReplaceAll(text, {{absl::StrCat("$", model),
                                         (data_ / "models" / model).string()}});
    }
    const std::string recipe = scratch_ / (name + ".yml");
    ASSERT_TRUE(WriteFile(recipe, text).ok());
    const std::string out = scratch_ / name;
    Merge({recipe, out, "--profile", "mergekit"});
    const Checkpoint got = Checkpoint::OpenDirectory(out).value();
    const Checkpoint want =
        Golden(absl::StrCat("recipes/", name, ".safetensors"));
    EXPECT_EQ(got.tensors().size(), want.tensors().size());
    ExpectNear(got, want, absl::StrContains(text, "\ndtype: bfloat16"));
  }
}

// make_paper_goldens.py wrote these.
TEST_F(MergeParity, WholeModelsFollowThePapers) {
  const fs::path papers = data_.parent_path() / "papers";
  const auto recipes =
      nlohmann::json::parse(ReadFile(papers / "recipes.json").value());
  for (const auto& [name, entry] : recipes.items()) {
    SCOPED_TRACE(name);
    std::string text = absl::StrReplaceAll(entry[1].get<std::string>(),
                                           {{"$DATA", papers.string()}});
    for (const char* model : {"B", "M1", "M2", "M3"}) {
      text = absl::StrReplaceAll(text, {{absl::StrCat("$", model),
                                         (data_ / "models" / model).string()}});
    }
    const std::string recipe = scratch_ / (name + ".yml");
    ASSERT_TRUE(WriteFile(recipe, text).ok());
    for (const char* threads : {"1", "3"}) {
      const std::string out = scratch_ / absl::StrCat(name, threads);
      Merge({recipe, out, "--profile", entry[0].get<std::string>(), "--threads",
             threads});
      ExpectNear(Checkpoint::OpenDirectory(out).value(),
                 Golden("../papers/" + name + ".safetensors"));
    }
    EXPECT_EQ(ReadFile(scratch_ / (name + "1") / "model.safetensors").value(),
              ReadFile(scratch_ / (name + "3") / "model.safetensors").value());
  }
}

TEST_F(MergeParity, RefusesModelsThatAreThereTwice) {
  const std::string model = data_ / "models";
  const std::string recipe = scratch_ / "recipe.yml";
  const auto merge = [&](absl::string_view other, absl::string_view last) {
    EXPECT_TRUE(
        WriteFile(
            recipe,
            absl::StrCat("merge_method: task_arithmetic\nbase_model: ", model,
                         "/B\nmodels:\n  - model: ", model, "/M1\n  - model: ",
                         other, "\nparameters: {weight: 1.0}\n", last))
            .ok());
    return testing::RunProcess(
        {std::string(std::getenv("CAIRN_BIN")) + "/cairn-merge", recipe,
         scratch_ / "out"},
        {}, absl::Seconds(30));
  };
  fs::copy(data_ / "models/M1", scratch_ / "copy");
  const testing::ProcessResult refused =
      merge((scratch_ / "copy").string(), "duplicates: refuse\n");
  EXPECT_EQ(refused.code, 1) << refused.err;
  EXPECT_NE(refused.err.find("cosine is 1.0000"), std::string::npos);
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
  EXPECT_EQ(merge(model + "/M2", "duplicates: refuse\n").code, 0);
  EXPECT_EQ(merge(model + "/M2", "clip_norm: -1\n").code, 1);
}

TEST_F(MergeParity, EveryAdapterGivesWhatPeftGives) {
  for (const auto& [name, base] : List("adapters.json")) {
    SCOPED_TRACE(name);
    const std::string out = scratch_ / name;
    Merge({"--base", data_ / "bases" / base, "--adapter",
           data_ / "adapters" / name, out});
    const Checkpoint got = Checkpoint::OpenDirectory(out).value();
    const Checkpoint want =
        Golden(absl::StrCat("merged/", name, ".safetensors"));
    ExpectNear(got, want);
    // Everything else is the base's, to the byte.
    const Checkpoint before =
        Checkpoint::OpenDirectory(data_ / "bases" / base).value();
    for (const CheckpointTensor& tensor : before.tensors()) {
      if (want.Find(tensor.name) != nullptr) continue;
      std::vector<char> a(static_cast<size_t>(tensor.size_bytes())), b = a;
      ASSERT_TRUE(before.ReadBytes(tensor.name, 0, absl::MakeSpan(a)).ok());
      ASSERT_TRUE(got.ReadBytes(tensor.name, 0, absl::MakeSpan(b)).ok());
      EXPECT_EQ(a, b) << tensor.name;
    }
  }
}

// make_vocabulary_goldens.py wrote these. Rows are compared token by token.
TEST_F(MergeParity, VocabulariesBecomeWhatMergekitMakesOfThem) {
  const fs::path vocabularies = data_.parent_path() / "vocabularies";
  const auto chats = List("../vocabularies/chat.json");
  for (auto [name, text] : List("../vocabularies/recipes.json")) {
    SCOPED_TRACE(name);
    for (const char* model : {"B", "X", "Y", "Z"}) {
      text = absl::StrReplaceAll(
          text, {{absl::StrCat("$", model),
                  (vocabularies / "models" / model).string()}});
    }
    const std::string recipe = scratch_ / (name + ".yml");
    ASSERT_TRUE(WriteFile(recipe, text).ok());
    const fs::path out = scratch_ / name;
    Merge({recipe, out, "--profile", "mergekit"});
    const Checkpoint got = Checkpoint::OpenDirectory(out).value();
    const Checkpoint want = Golden("../vocabularies/" + name + ".safetensors");
    const auto rows = TokensOf(out / "tokenizer.json");
    const auto wanted_rows = List<int64_t>("../vocabularies/" + name + ".json");
    ASSERT_EQ(rows.size(), wanted_rows.size());
    const auto config =
        nlohmann::json::parse(ReadFile(out / "config.json").value());
    EXPECT_EQ(config["vocab_size"],
              want.Find("model.embed_tokens.weight")->shape[0]);
    if (const auto chat = chats.find(name); chat != chats.end()) {
      EXPECT_EQ(ReadFile(out / "chat_template.jinja").value(), chat->second);
    }
    for (const CheckpointTensor& tensor : want.tensors()) {
      const bool has_tokens = absl::StrContains(tensor.name, "embed_tokens") ||
                              absl::StrContains(tensor.name, "lm_head");
      const CheckpointTensor* found = got.Find(tensor.name);
      ASSERT_NE(found, nullptr) << tensor.name;
      ASSERT_EQ(found->shape, tensor.shape) << tensor.name;
      std::vector<float> a(static_cast<size_t>(tensor.elements())), b = a;
      ASSERT_TRUE(got.ReadFloats(tensor.name, 0, absl::MakeSpan(a)).ok());
      ASSERT_TRUE(want.ReadFloats(tensor.name, 0, absl::MakeSpan(b)).ok());
      if (!has_tokens) {
        for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-7);
        continue;
      }
      const auto width = static_cast<size_t>(tensor.shape[1]);
      for (size_t i = rows.size() * width; i < a.size(); ++i) {
        ASSERT_NEAR(a[i], b[i], 1e-7) << tensor.name << " past the tokens";
      }
      for (const auto& [token, row] : wanted_rows) {
        const auto own = static_cast<size_t>(rows.at(token)) * width;
        const auto other = static_cast<size_t>(row) * width;
        for (size_t i = 0; i < width; ++i) {
          ASSERT_NEAR(a[own + i], b[other + i], 1e-7)
              << tensor.name << " " << token;
        }
      }
    }
  }
}

TEST_F(MergeParity, CombinationsOfFactorsAreThoseOfPeft) {
  const std::string base = data_ / "bases/llama";
  for (const auto& file : fs::directory_iterator(data_ / "combined")) {
    const std::string kind = file.path().stem();
    SCOPED_TRACE(kind);
    std::vector<std::string> flags = {
        "--base",    base,
        "--adapter", (data_ / "adapters/linear").string() + ":0.7",
        "--adapter", (data_ / "adapters/second").string() + ":-0.4",
        "--as",      "lora",
        "--combine", kind};
    if (absl::StrContains(kind, "ties") || absl::StrContains(kind, "prune")) {
      flags.insert(flags.end(), {"--density", "0.6"});
    }
    const std::string one = scratch_ / kind;
    flags.push_back(one);
    Merge(flags);
    Merge({"--base", base, "--adapter", one, one + "-in"});
    const Checkpoint got = Checkpoint::OpenDirectory(one + "-in").value();
    const Checkpoint want =
        Golden(absl::StrCat("combined/", kind, ".safetensors"));
    // Singular vectors come from another algorithm there, in float32.
    ExpectNear(got, want, false,
               absl::StrContains(kind, "svd") ? 5e-6f : 1e-6f);
  }
}

// What one adapter that several were merged to does to their base.
TEST_F(MergeParity, LorasBecomeOneLora) {
  const std::string base = data_ / "bases/llama";
  const std::string first = data_ / "adapters/linear";
  const std::string second =
      (data_ / "adapters/rslora-patterns").string() + ":-0.6";
  Merge({"--base", base, "--adapter", first, "--adapter", second,
         scratch_ / "dense"});
  Merge({"--base", base, "--adapter", first, "--adapter", second, "--as",
         "lora", scratch_ / "one"});
  Merge({"--base", base, "--adapter", scratch_ / "one", scratch_ / "through"});
  const Checkpoint dense =
      Checkpoint::OpenDirectory(scratch_ / "dense").value();
  ExpectNear(Checkpoint::OpenDirectory(scratch_ / "through").value(), dense);
  const auto config = nlohmann::json::parse(
      ReadFile(scratch_ / "one/adapter_config.json").value());
  EXPECT_EQ(
      config["rank_pattern"][R"(^model\.layers\.0\.self_attn\.q_proj)"], 5);
  EXPECT_EQ(config["rank_pattern"], config["alpha_pattern"]);
  EXPECT_EQ(config["use_rslora"], false);

  // Cut to rank 2: the residual that is told is the one that is there.
  const testing::ProcessResult run = testing::RunProcess(
      {std::string(std::getenv("CAIRN_BIN")) + "/cairn-merge", "--base", base,
       "--adapter", first, "--adapter", second, "--as", "lora", "--rank", "2",
       "--json", scratch_ / "cut"},
      {}, absl::Seconds(30));
  ASSERT_EQ(run.code, 0) << run.err;
  Merge({"--base", base, "--adapter", scratch_ / "cut", scratch_ / "near"});
  const Checkpoint near = Checkpoint::OpenDirectory(scratch_ / "near").value();
  const Checkpoint before = Checkpoint::OpenDirectory(base).value();
  const auto told = nlohmann::json::parse(run.out);
  for (const auto& module : told["modules"]) {
    const std::string name = module["name"].get<std::string>() + ".weight";
    const auto count = static_cast<size_t>(before.Find(name)->elements());
    std::vector<float> b(count), d(count), n(count);
    ASSERT_TRUE(before.ReadFloats(name, 0, absl::MakeSpan(b)).ok());
    ASSERT_TRUE(dense.ReadFloats(name, 0, absl::MakeSpan(d)).ok());
    ASSERT_TRUE(near.ReadFloats(name, 0, absl::MakeSpan(n)).ok());
    double whole = 0, lost = 0;
    for (size_t i = 0; i < count; ++i) {
      whole += std::pow(static_cast<double>(d[i] - b[i]), 2);
      lost += std::pow(static_cast<double>(d[i] - n[i]), 2);
    }
    EXPECT_EQ(module["rank"], 2) << name;
    EXPECT_NEAR(module["residual"].get<double>(), std::sqrt(lost / whole), 1e-4)
        << name;
    EXPECT_GT(module["residual"], 0) << name;
  }
}

TEST_F(MergeParity, AdaptersOfOtherKindsBecomeOne) {
  // A LoRA of embeddings, and one of GPT-2's transposed layers.
  for (const auto& [name, base] :
       {std::pair<const char*, const char*>{"embedding", "llama"},
        {"conv1d", "gpt2"},
        {"conv2d", "resnet"}}) {
    SCOPED_TRACE(name);
    const std::string adapter = data_ / "adapters" / name;
    const std::vector<std::string> both = {
        "--base",    (data_ / "bases" / base).string(),
        "--adapter", adapter + ":0.75",
        "--adapter", adapter + ":0.5"};
    auto with = [&](std::vector<std::string> more) {
      more.insert(more.begin(), both.begin(), both.end());
      return more;
    };
    const std::string one = scratch_ / (std::string(name) + "-one");
    Merge(with({scratch_ / name}));
    Merge(with({"--as", "lora", one}));
    Merge({"--base", data_ / "bases" / base, "--adapter", one, one + "-in"});
    ExpectNear(Checkpoint::OpenDirectory(one + "-in").value(),
               Checkpoint::OpenDirectory(scratch_ / name).value());
  }
  // IA3 twice is one after the other.
  const std::string base = data_ / "bases/biased";
  const std::string ia3 = data_ / "adapters/ia3";
  Merge({"--base", base, "--adapter", ia3, scratch_ / "once"});
  Merge({"--base", scratch_ / "once", "--adapter", ia3, scratch_ / "twice"});
  Merge({"--base", base, "--adapter", ia3, "--adapter", ia3, "--as", "ia3",
         scratch_ / "product"});
  Merge({"--base", base, "--adapter", scratch_ / "product", scratch_ / "by"});
  ExpectNear(Checkpoint::OpenDirectory(scratch_ / "by").value(),
             Checkpoint::OpenDirectory(scratch_ / "twice").value());
}

TEST_F(MergeParity, WhatIsNoSumOfFactorsIsRefusedAsOneLora) {
  for (const auto& [name, base] :
       {std::pair<const char*, const char*>{"dora", "llama"},
        {"modules-to-save", "llama"},
        {"experts-fused", "granitemoe"},
        {"ia3", "biased"}}) {
    const testing::ProcessResult run = testing::RunProcess(
        {std::string(std::getenv("CAIRN_BIN")) + "/cairn-merge", "--base",
         data_ / "bases" / base, "--adapter", data_ / "adapters" / name, "--as",
         "lora", scratch_ / name},
        {}, absl::Seconds(30));
    EXPECT_EQ(run.code, 1) << name << run.err;
    EXPECT_NE(run.err.find(name), std::string::npos) << run.err;
    EXPECT_FALSE(fs::exists(scratch_ / name));
  }
}

TEST_F(MergeParity, RecordsReplayAndNoticeChangedInputs) {
  fs::copy(data_ / "models", scratch_ / "models", fs::copy_options::recursive);
  const std::string model = scratch_ / "models";
  const std::string recipe = scratch_ / "recipe.yml";
  ASSERT_TRUE(
      WriteFile(recipe,
                absl::StrCat("merge_method: dare_ties\nbase_model: ", model,
                             "/B\nmodels:\n  - model: ", model,
                             "/M1\n    parameters: {weight: 1, density: 0.5}\n"
                             "  - model: ",
                             model, "/M2\n    parameters: {weight: 0.5}\n"))
          .ok());
  Merge({recipe, scratch_ / "out", "--seed", "7"});
  Merge({"replay", scratch_ / "out/merge-record.json", scratch_ / "again"});
  EXPECT_EQ(ReadFile(scratch_ / "out/model.safetensors").value(),
            ReadFile(scratch_ / "again/model.safetensors").value());
  fs::copy(data_ / "models/M3/model.safetensors",
           scratch_ / "models/M2/model.safetensors",
           fs::copy_options::overwrite_existing);
  const testing::ProcessResult run = testing::RunProcess(
      {std::string(std::getenv("CAIRN_BIN")) + "/cairn-merge", "replay",
       scratch_ / "out/merge-record.json", scratch_ / "third"},
      {}, absl::Seconds(30));
  EXPECT_EQ(run.code, 7) << run.err;
  EXPECT_NE(run.err.find("M2"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(scratch_ / "third"));
}

}  // namespace
}  // namespace cairn
