// cairn-evaluate as a program: its documents, rows and exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "tests/support/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
namespace fs = std::filesystem;

class EvaluateProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "evaluate.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    fs::copy(
        fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/parity",
        scratch_, fs::copy_options::recursive);
    rows_ = scratch_ / "rows.jsonl";
  }
  void TearDown() override { fs::remove_all(scratch_); }

  testing::ProcessResult Run(std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 std::string(std::getenv("CAIRN_BIN")) + "/cairn-evaluate");
    return testing::RunProcess(flags, {}, absl::Seconds(60));
  }

  // Scores the model of case "gqa"; the suite can be spoilt beforehand.
  testing::ProcessResult Score(const std::vector<std::string>& more = {}) {
    std::vector<std::string> flags = {"--json",
                                      "--model",
                                      scratch_ / "gqa",
                                      "--suite",
                                      scratch_ / "suites/perplexity",
                                      "--per-item",
                                      rows_};
    flags.insert(flags.end(), more.begin(), more.end());
    return Run(flags);
  }

  // The second layer's part of a LoRA in F32, its B times `factor`.
  std::string MakeUpperAdapter(const fs::path& lora, const std::string& name,
                               float factor) {
    constexpr char kWeights[] = "adapter_model.safetensors";
    const fs::path out = scratch_ / name;
    fs::create_directory(out);
    fs::copy(lora / "adapter_config.json", out);
    const auto source = *OpenFileSource(lora / kWeights);
    const auto header = *SafetensorsHeader::Read(*source, kWeights);
    std::vector<TensorSpec> kept;
    for (const TensorEntry& entry : header.tensors()) {
      if (absl::StrContains(entry.name, "layers.1.")) kept.push_back(entry);
    }
    auto writer = *SafetensorsWriter::Create(out / kWeights, kept, {});
    for (const TensorEntry& entry : header.tensors()) {
      if (!absl::StrContains(entry.name, "layers.1.")) continue;
      EXPECT_EQ(entry.dtype, DType::kF32);
      std::vector<float> values(static_cast<size_t>(entry.elements()));
      const absl::Span<char> bytes(reinterpret_cast<char*>(values.data()),
                                   values.size() * sizeof(float));
      EXPECT_TRUE(source->ReadAt(entry.begin, bytes).ok());
      if (absl::StrContains(entry.name, "lora_B")) {
        for (float& value : values) value *= factor;
      }
      EXPECT_TRUE(writer->Write(entry.name, 0, bytes).ok());
    }
    EXPECT_TRUE(std::move(*writer).Finish().ok());
    return out;
  }

  // Without the names of adapters, which only rows of several have.
  static std::vector<Json> RowsOf(const std::string& text) {
    std::vector<Json> rows;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      rows.push_back(Json::parse(line));
      rows.back().erase("adapter");
    }
    return rows;
  }

  void ExpectRefused(const testing::ProcessResult& run, int code,
                     const std::string& named) {
    EXPECT_EQ(run.code, code) << run.err;
    const Json error = Json::parse(run.out)["error"];
    EXPECT_THAT(error["message"].get<std::string>(), HasSubstr(named));
    EXPECT_THAT(run.err, HasSubstr(error["message"].get<std::string>()));
    EXPECT_FALSE(fs::exists(rows_));
  }

  fs::path scratch_;
  fs::path rows_;
};

TEST_F(EvaluateProgram, WritesAReportAndARowAnItem) {
  const testing::ProcessResult run = Score();
  ASSERT_EQ(run.code, 0) << run.err;
  const Json report = Json::parse(run.out);
  EXPECT_EQ(report["suite"], "perplexity");
  EXPECT_EQ(report["split"], "gate");
  EXPECT_EQ(report["items"], 6);
  EXPECT_EQ(report["value"], report["metrics"]["perplexity"]);
  std::ifstream rows(rows_);
  int count = 0;
  for (std::string line; std::getline(rows, line); ++count) {
    EXPECT_EQ(Json::parse(line)["id"], "p" + std::to_string(count));
  }
  EXPECT_EQ(count, 6);
}

TEST_F(EvaluateProgram, ThreadsAndBatchChangeNoByte) {
  ASSERT_EQ(Score({"--threads", "1", "--batch", "1"}).code, 0);
  const std::string first = *ReadFile(rows_);
  ASSERT_EQ(Score({"--threads", "3", "--batch", "7"}).code, 0);
  EXPECT_EQ(*ReadFile(rows_), first);
}

TEST_F(EvaluateProgram, ScoresSeveralAdaptersOnOneBase) {
  const std::string lora = scratch_ / "lora";
  const testing::ProcessResult alone = Score({"--adapter", lora});
  ASSERT_EQ(alone.code, 0) << alone.err;
  const testing::ProcessResult twice =
      Score({"--adapter", lora, "--adapter", lora});
  ASSERT_EQ(twice.code, 0) << twice.err;
  const Json items = Json::parse(twice.out)["items"];
  ASSERT_EQ(items.size(), 2U);
  for (const Json& report : items) {
    EXPECT_EQ(report["adapter"], lora);
    EXPECT_EQ(report["value"], Json::parse(alone.out)["value"]);
  }
  const testing::ProcessResult base = Score();
  EXPECT_NE(Json::parse(base.out)["value"], items[0]["value"]);
}

// Adapters that leave the first layer alone share what comes out of it.
TEST_F(EvaluateProgram, AdaptersOfUpperLayersScoreTogetherAsAlone) {
  const fs::path lora = scratch_ / "lora";
  const std::vector<std::string> adapters = {MakeUpperAdapter(lora, "upper", 1),
                                             MakeUpperAdapter(lora, "more", -3),
                                             lora};
  for (const size_t count : {size_t{2}, size_t{3}}) {
    std::vector<std::string> flags;
    std::string alone;
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(Score({"--adapter", adapters[i]}).code, 0) << adapters[i];
      alone += *ReadFile(rows_);
      flags.insert(flags.end(), {"--adapter", adapters[i]});
    }
    ASSERT_EQ(Score(flags).code, 0);
    EXPECT_EQ(RowsOf(*ReadFile(rows_)), RowsOf(alone)) << count;
  }
}

TEST_F(EvaluateProgram, UsageIsExitTwoAndNamesTheFlag) {
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"--batch", "0"},
        {"--threads", "0"},
        {"--dtype", "int3"},
        {"--device", "abacus"},
        {"--split", "audit"},
        {"--frobnicate"}}) {
    const testing::ProcessResult run = Score(flags);
    EXPECT_EQ(run.code, 2) << flags[0];
    EXPECT_THAT(run.err, HasSubstr(flags[0]));
    EXPECT_FALSE(fs::exists(rows_));
  }
  const testing::ProcessResult run = Run({"--model", scratch_ / "gqa"});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, HasSubstr("--suite"));
}

TEST_F(EvaluateProgram, WhatIsNotThereIsExitThree) {
  for (const char* flag : {"--model", "--suite", "--adapter"}) {
    std::vector<std::string> flags = {"--json", "--per-item", rows_};
    for (const char* other : {"--model", "--suite"}) {
      if (std::string(other) == flag) continue;
      flags.insert(flags.end(), {other, other == std::string("--model")
                                            ? scratch_ / "gqa"
                                            : scratch_ / "suites/perplexity"});
    }
    flags.insert(flags.end(), {flag, scratch_ / "none"});
    ExpectRefused(Run(flags), 3, "none");
  }
  fs::remove(scratch_ / "suites/perplexity/items.jsonl");
  ExpectRefused(Score(), 3, "items.jsonl");
}

TEST_F(EvaluateProgram, WhatIsSoundButUnfitIsExitOne) {
  const fs::path config = scratch_ / "gqa/config.json";
  Json json = Json::parse(*ReadFile(config));
  json["architectures"] = {"MambaForCausalLM"};
  ASSERT_TRUE(WriteFile(config, json.dump()).ok());
  ExpectRefused(Score(), 1, "MambaForCausalLM");
}

TEST_F(EvaluateProgram, AnAdapterOfAnotherModelIsExitOne) {
  ExpectRefused(Run({"--json", "--model", scratch_ / "tied", "--suite",
                     scratch_ / "suites/perplexity", "--adapter",
                     scratch_ / "lora", "--per-item", rows_}),
                1, "model.layers.1.");
}

TEST_F(EvaluateProgram, WhatIsDamagedIsExitSeven) {
  const fs::path items = scratch_ / "suites/perplexity/items.jsonl";
  const std::string sound = *ReadFile(items);
  ASSERT_TRUE(WriteFile(items, sound + "{\"id\": \"x\"}\n").ok());
  ExpectRefused(Score(), 7, "items.jsonl:7: item `x`");
  ASSERT_TRUE(WriteFile(items, sound).ok());
  fs::resize_file(scratch_ / "gqa/model.safetensors", 20000);
  ExpectRefused(Score(), 7, "model.safetensors");
}

TEST_F(EvaluateProgram, TorchScriptRunsInASandboxAndWhenAsked) {
  const fs::path model = fs::path(std::getenv("CAIRN_SOURCE_DIR")) /
                         "tests/testdata/torchscript/gptj";
  // Ids of the suite go up to 40, the model's vocabulary to 30.
  fs::path suite = scratch_ / "small";
  fs::create_directory(suite);
  std::ofstream(suite / "suite.yaml")
      << "name: small\nkind: perplexity\nmetric: perplexity\n"
         "splits: {gate: items.jsonl}\n";
  std::ofstream(suite / "items.jsonl")
      << "{\"id\": \"a\", \"input_ids\": [4, 5, 6, 7]}\n"
         "{\"id\": \"b\", \"input_ids\": [30, 2, 9]}\n";
  const std::vector<std::string> flags = {
      "--json", "--model", model, "--suite", suite, "--per-item", rows_};
  ExpectRefused(Run(flags), 1, "--torchscript");
  std::vector<std::string> asked = flags;
  asked.push_back("--torchscript");
  const testing::ProcessResult run = Run(asked);
  ASSERT_EQ(run.code, 0) << run.err;
  const Json report = Json::parse(run.out);
  EXPECT_EQ(report["items"], 2);
  EXPECT_EQ(report["tokens"], 5);
  const std::string rows = *ReadFile(rows_);
  asked.insert(asked.end(), {"--threads", "2", "--batch", "5"});
  EXPECT_EQ(Json::parse(Run(asked).out), report);
  EXPECT_EQ(*ReadFile(rows_), rows);
  // Errors come through the sandbox as they are.
  fs::remove(rows_);
  asked.insert(asked.end(), {"--dtype", "bfloat16"});
  ExpectRefused(Run(asked), 1, "float32");
}

}  // namespace
}  // namespace cairn
