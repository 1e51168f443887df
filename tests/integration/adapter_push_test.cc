// Adapters of every kind that peft writes, pushed to a whole hub, screened by
// it, and merged and evaluated by the code of a worker: the merged tensors are
// those of peft's merge_and_unload (tests/parity/make_merge_goldens.py).

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "merge/worker/job_runner.h"
#include "tests/integration/update_journey.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

fs::path Golden(const std::string& path) { return testing::MergeGolden(path); }

// name -> base
std::map<std::string, std::string> Adapters() {
  return nlohmann::json::parse(ReadFile(Golden("adapters.json")).value())
      .get<std::map<std::string, std::string>>();
}

class AdapterPushTest : public testing::UpdateJourney {
 protected:
  absl::StatusOr<v1::Contribution> PushAdapter(const std::string& name,
                                               const std::string& base) {
    return PushDirectory(Golden("adapters/" + name), base);
  }

  // An adapter with what its author measured of it.
  std::string WithStatistics(const std::string& name) {
    const fs::path directory = scratch_ / ("measured-" + name);
    if (!fs::exists(directory)) {
      fs::copy(Golden("adapters/" + name), directory);
      fs::copy(Golden("statistics/" + name + ".safetensors"),
               directory / "cairn-statistics.safetensors");
    }
    return directory;
  }

  JobContext StageAdapter(const std::string& name, const std::string& base,
                          v1::UpdateInput& update) {
    return Stage(name, base, Golden("adapters/" + name), update);
  }
};

bool IsRefused(const std::string& name) {
  return name == "unties" || name == "grown";
}

v1::Encoding::Kind EncodingOf(const std::string& name) {
  if (absl::StartsWith(name, "ia3")) return v1::Encoding::IA3;
  return name == "shira" ? v1::Encoding::SHIRA : v1::Encoding::LORA;
}

TEST_F(AdapterPushTest, EveryKindIsTakenAndPassesTheScreens) {
  std::map<std::string, bool> models;
  for (const auto& [name, base] : Adapters()) {
    SCOPED_TRACE(name);
    if (!std::exchange(models[base], true)) CreateModel(base);
    auto pushed = PushAdapter(name, base);
    if (IsRefused(name)) {
      EXPECT_TRUE(absl::IsInvalidArgument(pushed.status())) << pushed.status();
      EXPECT_EQ(GetReason(pushed.status())->code, "UNSUPPORTED");
      const absl::string_view message = pushed.status().message();
      EXPECT_TRUE(absl::StrContains(message, "embed_tokens.weight") ||
                  absl::StrContains(message, "lm_head.weight"))
          << message;
      continue;
    }
    ASSERT_TRUE(pushed.ok()) << pushed.status();
    EXPECT_EQ(pushed->encoding(), EncodingOf(name));
    const v1::Contribution screened = Screened(pushed->name());
    EXPECT_NE(screened.state(), v1::Contribution::RECEIVED);
    EXPECT_NE(screened.state(), v1::Contribution::REJECTED)
        << screened.ShortDebugString();
  }
}

TEST_F(AdapterPushTest, MergesAreWhatPeftGivesAndReplay) {
  for (const auto& [name, base] : Adapters()) {
    if (IsRefused(name)) continue;
    SCOPED_TRACE(name);
    v1::JobSpec spec;
    v1::MergeSpec& merge = *spec.mutable_merge();
    const JobContext context = StageAdapter(name, base, *merge.add_updates());
    *merge.mutable_head()->mutable_release() = merge.updates(0).base();
    merge.set_strategy("task_arithmetic");
    (*merge.mutable_parameters())["lambda"] = "1";
    merge.set_output(v1::MergeSpec::UPLOAD);
    auto merged = RunJob(spec, context);
    ASSERT_TRUE(merged.ok()) << merged.status();
    ExpectTensors(Golden("merged/" + name + ".safetensors"), base, context,
                  merged->merge());
    merge.set_output(v1::MergeSpec::DIGEST_ONLY);
    auto again = RunJob(spec, context);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(again->merge().digest(), merged->merge().digest());
  }
}

// Both by the papers' equations, which the script solved in torch.
TEST_F(AdapterPushTest, WhatAuthorsMeasuredDecidesTheMerge) {
  for (const std::string strategy : {"fisher", "regmean"}) {
    SCOPED_TRACE(strategy);
    v1::JobSpec spec;
    v1::MergeSpec& merge = *spec.mutable_merge();
    const JobContext context =
        StageRelease(strategy, "llama", *merge.add_updates());
    *merge.add_updates() = merge.updates(0);
    merge.mutable_updates(1)->set_contribution("models/m/contributions/c2");
    merge.mutable_updates(1)->set_digest("sha256:e");
    fs::create_directories(fs::path(context.layout.Update(0)).parent_path());
    fs::copy(WithStatistics("linear"), context.layout.Update(0));
    fs::copy(WithStatistics("second"), context.layout.Update(1));
    *merge.mutable_head()->mutable_release() = merge.updates(0).base();
    merge.set_strategy(strategy);
    merge.set_output(v1::MergeSpec::UPLOAD);
    auto merged = RunJob(spec, context);
    ASSERT_TRUE(merged.ok()) << merged.status();
    ExpectTensors(Golden("statistics/" + strategy + ".safetensors"), "llama",
                  context, merged->merge());
    merge.set_output(v1::MergeSpec::DIGEST_ONLY);
    EXPECT_EQ(RunJob(spec, context)->merge().digest(),
              merged->merge().digest());
  }
}

TEST_F(AdapterPushTest, StatisticsAreScreenedWithTheirUpdate) {
  CreateModel("llama");
  const std::string measured = WithStatistics("second");
  auto pushed = PushDirectory(measured, "llama");
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_NE(Screened(pushed->name()).state(), v1::Contribution::REJECTED);
  // Other statistics make another update; a NaN among them is found.
  const std::string file = measured + "/cairn-statistics.safetensors";
  std::string bytes = ReadFile(file).value();
  bytes.replace(bytes.size() - 4, 4, std::string("\xff\xff\xff\x7f", 4));
  ASSERT_TRUE(WriteFile(file, bytes).ok());
  pushed = PushDirectory(measured, "llama");
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  const v1::Contribution rejected = Screened(pushed->name());
  EXPECT_EQ(rejected.state(), v1::Contribution::REJECTED);
  EXPECT_TRUE(absl::StrContains(rejected.ShortDebugString(), "NON_FINITE"))
      << rejected.ShortDebugString();
  // Those of an adapter on another base are refused before they travel.
  fs::remove(file);
  fs::copy(Golden("adapters/experts-fused/adapter_model.safetensors"), file);
  EXPECT_EQ(GetReason(PushDirectory(measured, "llama").status())->code,
            "UNKNOWN_FORMAT");
}

// The kinds that do not add up alone are evaluated as any other update.
TEST_F(AdapterPushTest, WhatDependsOnTheBaseIsEvaluated) {
  for (const std::string name : {"dora", "tokens", "shira", "shrunk", "ia3"}) {
    SCOPED_TRACE(name);
    v1::JobSpec spec;
    v1::EvaluateSpec& evaluate = *spec.mutable_evaluate();
    const JobContext context =
        StageAdapter(name, Adapters().at(name), *evaluate.mutable_update());
    *evaluate.mutable_base()->mutable_release() = evaluate.update().base();
    v1::SuiteInput& suite = *evaluate.add_suites();
    suite.set_suite("models/m/suites/tiny");
    suite.set_version(1);
    suite.add_splits("gate");
    suite.set_score_base(true);
    fs::create_directories(context.layout.Suite(0));
    ASSERT_TRUE(
        WriteFile(context.layout.Suite(0) + "/suite.yaml",
                  "name: tiny\nkind: perplexity\nmetric: perplexity\n"
                  "higher_is_better: false\ndescription: d\nlicense: CC0-1.0\n"
                  "splits: {search: a.jsonl, gate: a.jsonl, audit: a.jsonl}\n")
            .ok());
    ASSERT_TRUE(
        WriteFile(context.layout.Suite(0) + "/a.jsonl",
                  "{\"id\": \"1\", \"input_ids\": [1, 2, 3, 4, 5, 6]}\n")
            .ok());
    auto scored = RunJob(spec, context);
    ASSERT_TRUE(scored.ok()) << scored.status();
    const v1::EvaluateResult& scores = scored->evaluate();
    ASSERT_EQ(scores.base_size(), 1);
    ASSERT_EQ(scores.candidate_size(), 1);
    EXPECT_NE(scores.base(0).value(), scores.candidate(0).value());
  }
}

}  // namespace
}  // namespace cairn
