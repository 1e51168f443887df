// cairn-soup as a program, beside what cairn-evaluate says of its result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/file.h"
#include "tests/support/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
namespace fs = std::filesystem;

class SoupProgram : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "soup.XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    data_ = fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/merge";
    fs::create_directories(scratch_ / "suite");
    std::string items;
    for (int i = 0; i < 4; ++i) {
      absl::StrAppend(&items, "{\"id\": \"", i, "\", \"input_ids\": [1, ",
                      3 + i, ", 7, ", 9 - i, ", 2, 5, ", i, "]}\n");
    }
    ASSERT_TRUE(WriteFile(scratch_ / "suite/items.jsonl", items).ok());
    ASSERT_TRUE(WriteFile(scratch_ / "suite/suite.yaml",
                          "name: s\nkind: perplexity\nmetric: perplexity\n"
                          "higher_is_better: false\ndescription: d\n"
                          "license: CC0-1.0\nsplits: {search: items.jsonl}\n")
                    .ok());
  }
  void TearDown() override { fs::remove_all(scratch_); }

  testing::ProcessResult Run(const std::string& program,
                             std::vector<std::string> flags) {
    flags.insert(flags.begin(),
                 absl::StrCat(std::getenv("CAIRN_BIN"), "/", program));
    flags.insert(flags.end(), {"--suite", scratch_ / "suite", "--json"});
    return testing::RunProcess(flags, {}, absl::Seconds(60));
  }

  double Perplexity(const std::string& model) {
    const auto run = Run("cairn-evaluate", {"--model", model});
    EXPECT_EQ(run.code, 0) << run.err;
    return Json::parse(run.out)["value"].get<double>();
  }

  // What the program says is the greedy procedure, and the result has the
  // score that it promises.
  void ExpectGreedy(const Json& told, const fs::path& out) {
    double best = told["trials"][0]["alone"];
    double before = best;
    for (const Json& trial : told["trials"]) {
      EXPECT_GE(trial["alone"], before) << told;
      before = trial["alone"];
      EXPECT_EQ(trial["kept"].get<bool>(), trial["mixed"] <= best) << told;
      if (trial["kept"]) best = trial["mixed"];
    }
    EXPECT_NEAR(Perplexity(out), best, 1e-4 * best) << told;
    EXPECT_TRUE(fs::exists(out / "merge-record.json"));
  }

  fs::path scratch_, data_;
};

TEST_F(SoupProgram, AveragesTheModelsThatHelp) {
  std::vector<std::string> flags;
  for (const char* model : {"M1", "B", "M2", "M3"}) {
    flags.insert(flags.end(), {"--model", data_ / "models" / model});
  }
  flags.push_back(scratch_ / "out");
  const auto run = Run("cairn-soup", flags);
  ASSERT_EQ(run.code, 0) << run.err;
  const Json told = Json::parse(run.out);
  ASSERT_EQ(told["trials"].size(), 4u);
  for (const Json& trial : told["trials"]) {
    EXPECT_NEAR(trial["alone"].get<double>(),
                Perplexity(trial["candidate"].get<std::string>()), 1e-9);
  }
  ExpectGreedy(told, scratch_ / "out");
}

TEST_F(SoupProgram, AveragesAdaptersOnTheirBase) {
  const auto run = Run(
      "cairn-soup", {"--base", data_ / "bases/llama", "--adapter",
                     data_ / "adapters/linear", "--adapter",
                     data_ / "adapters/second", scratch_ / "out"});
  ASSERT_EQ(run.code, 0) << run.err;
  ExpectGreedy(Json::parse(run.out), scratch_ / "out");
}

TEST_F(SoupProgram, RefusesWhatIsNoSoup) {
  EXPECT_EQ(
      Run("cairn-soup", {"--model", data_ / "models/B", scratch_ / "out"}).code,
      2);
  const auto run = Run("cairn-soup", {"--model", data_ / "models/B", "--model",
                                      data_ / "bases/llama", scratch_ / "out"});
  EXPECT_EQ(run.code, 1) << run.err;
  EXPECT_THAT(run.err, HasSubstr("model.layers.1"));
  EXPECT_FALSE(fs::exists(scratch_ / "out"));
}

}  // namespace
}  // namespace cairn
