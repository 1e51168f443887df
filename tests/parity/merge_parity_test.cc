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

  std::map<std::string, std::string> List(const std::string& file) const {
    return nlohmann::json::parse(ReadFile(data_ / file).value())
        .get<std::map<std::string, std::string>>();
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
                         bool is_bf16 = false) {
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
        ASSERT_NEAR(a[i], b[i], std::max(1e-6f * largest, step))
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
        WriteFile(recipe, absl::StrCat(
                              "merge_method: task_arithmetic\nbase_model: ",
                              model, "/B\nmodels:\n  - model: ", model,
                              "/M1\n  - model: ", other,
                              "\nparameters: {weight: 1.0}\n", last))
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
