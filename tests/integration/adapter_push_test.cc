// Adapters of every kind that peft writes, pushed to a whole hub, screened by
// it, and merged and evaluated by the code of a worker: the merged tensors are
// those of peft's merge_and_unload (tests/parity/make_merge_goldens.py).

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
#include "absl/time/clock.h"
#include "cairn/v1/contribution.grpc.pb.h"
#include "cairn/v1/model.grpc.pb.h"
#include "client/model_files.h"
#include "client/push.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/status_util.h"
#include "core/rpc/blob_upload.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"
#include "merge/engine/model_identity.h"
#include "merge/tensor/compute.h"
#include "merge/worker/job_runner.h"
#include "server/testing/in_process_hub.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

fs::path Golden(const std::string& path) {
  return fs::path(std::getenv("CAIRN_SOURCE_DIR")) / "tests/testdata/merge" /
         path;
}

// name -> base
std::map<std::string, std::string> Adapters() {
  return nlohmann::json::parse(ReadFile(Golden("adapters.json")).value())
      .get<std::map<std::string, std::string>>();
}

class AdapterPushTest : public ::testing::Test {
 protected:
  AdapterPushTest() {
    InitCompute();
    scratch_ = fs::path(::testing::TempDir()) /
               absl::StrCat("cairn-adapter-push-", ToHex(RandomBytes(8)));
    hub_.AddPerson("mia", v1::User::MAINTAINER);
    hub_.AddPerson("ada", v1::User::CONTRIBUTOR);
    home_ = std::make_unique<Home>(scratch_ / "home");
    EXPECT_TRUE(home_->Prepare().ok());
    EXPECT_TRUE(
        WriteFile(home_->path() + "/key", hub_.KeyOf("ada").seed_hex()).ok());
    ada_ = hub_.Connect("ada");
    voice_.note = [](const std::string&) {};
    voice_.warn = [](const std::string&) {};
    voice_.meter = [](const std::string& label, int64_t total) {
      return std::make_unique<ProgressMeter>(ProgressStyle::kNone, label,
                                             total);
    };
  }
  ~AdapterPushTest() override { fs::remove_all(scratch_); }

  void CreateModel(const std::string& base) {
    auto mia = hub_.Connect("mia");
    auto files = ReadModelFiles(Golden("bases/" + base), nullptr);
    ASSERT_TRUE(files.ok()) << files.status();
    ASSERT_TRUE(UploadBlobs(*mia, files->blobs).ok());
    v1::CreateModelRequest request;
    request.set_model_id(base);
    request.set_license("MIT");
    // Tiny random adapters are large beside their tiny base.
    request.mutable_policy()->set_norm_ratio_max(1000);
    request.mutable_policy()->set_public_(true);
    request.mutable_files()->Add(files->files.begin(), files->files.end());
    auto created = mia->Call(&v1::ModelService::Stub::CreateModel, request);
    ASSERT_TRUE(created.ok()) << base << ": " << created.status();
  }

  absl::StatusOr<v1::Contribution> PushAdapter(const std::string& name,
                                               const std::string& base) {
    return PushDirectory(Golden("adapters/" + name), base);
  }

  absl::StatusOr<v1::Contribution> PushDirectory(const std::string& directory,
                                                 const std::string& base) {
    PushOptions options;
    options.model = "models/" + base;
    options.path = directory;
    options.base = "v1.0.0";
    options.license = "MIT";
    return Push(*ada_, *home_, options, voice_);
  }

  // The contribution once the screens are through with it.
  v1::Contribution Screened(const std::string& contribution) {
    v1::GetContributionRequest request;
    request.set_name(contribution);
    const absl::Time end = absl::Now() + absl::Seconds(30);
    for (;;) {
      auto found = ada_->Call(&v1::ContributionService::Stub::GetContribution,
                              request);
      EXPECT_TRUE(found.ok()) << found.status();
      if (!found.ok() || absl::Now() > end ||
          found->state() != v1::Contribution::RECEIVED) {
        return found.value_or(v1::Contribution());
      }
      absl::SleepFor(absl::Milliseconds(10));
    }
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

  // A job's folder as the worker would have staged it.
  JobContext Stage(const std::string& name, const std::string& base,
                   v1::UpdateInput& update) {
    const JobContext context = StageRelease(name, base, update);
    fs::create_directories(fs::path(context.layout.Update(0)).parent_path());
    fs::copy(Golden("adapters/" + name), context.layout.Update(0));
    return context;
  }

  // ... but for the update's files.
  JobContext StageRelease(const std::string& job, const std::string& base,
                          v1::UpdateInput& update) {
    JobContext context = {
        .layout = JobLayout(scratch_ / ("job-" + job), scratch_ / "releases"),
        .threads = 2,
        .memory_bytes = 64 << 20,
        .device_class = "test",
        .progress = [](double, absl::string_view) {}};
    const Checkpoint checkpoint =
        Checkpoint::OpenDirectory(Golden("bases/" + base)).value();
    const ModelIdentity identity = IdentifyModel(checkpoint, 1).value();
    const fs::path release = context.layout.Release(identity.digest);
    if (!fs::exists(release)) {
      fs::create_directories(release.parent_path());
      fs::copy(Golden("bases/" + base), release);
    }
    update.set_contribution("models/m/contributions/c1");
    update.set_digest("sha256:d");
    update.mutable_base()->set_name("models/m/releases/v1.0.0");
    update.mutable_base()->set_digest(identity.digest);
    return context;
  }

  // What peft gives for the tensors that it changes. Of a vocabulary that the
  // adapter made smaller the rows past it are the base's.
  void ExpectPeft(const std::string& name, const std::string& base,
                  const JobContext& context, const v1::MergeResult& merge) {
    ExpectTensors("merged/" + name + ".safetensors", base, context, merge);
  }

  void ExpectTensors(const std::string& golden, const std::string& base,
                     const JobContext& context, const v1::MergeResult& merge) {
    FileMap files;
    files["model.safetensors"] = OpenFileSource(Golden(golden)).value();
    const Checkpoint want = Checkpoint::Open(std::move(files)).value();
    const Checkpoint before =
        Checkpoint::OpenDirectory(Golden("bases/" + base)).value();
    const std::string output = context.layout.output_directory() + "/";
    const v1::TensorManifest manifest =
        ParseTensorManifest(
            ReadFile(output + merge.tensor_manifest_sha256()).value())
            .value();
    for (const CheckpointTensor& tensor : want.tensors()) {
      const v1::Tensor* entry = FindTensor(manifest, tensor.name);
      ASSERT_NE(entry, nullptr) << tensor.name;
      const std::string bytes = ReadFile(output + entry->sha256()).value();
      std::vector<float> got(bytes.size() / 4), expected(got.size());
      ToFloats(DType::kF32, bytes, absl::MakeSpan(got));
      ASSERT_TRUE(
          before.ReadFloats(tensor.name, 0, absl::MakeSpan(expected)).ok());
      const auto count = static_cast<size_t>(tensor.elements());
      ASSERT_LE(count, got.size());
      ASSERT_TRUE(want.ReadFloats(tensor.name, 0,
                                  absl::MakeSpan(expected).subspan(0, count))
                      .ok());
      float largest = 0;
      for (float value : expected) largest = std::max(largest, fabsf(value));
      for (size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], expected[i], 2e-6f * largest)
            << tensor.name << " " << i;
      }
    }
  }

  fs::path scratch_;
  testing::InProcessHub hub_;
  std::unique_ptr<HubChannel> ada_;
  std::unique_ptr<Home> home_;
  PushVoice voice_;
};

bool IsRefused(const std::string& name) {
  return name == "unties" || name == "grown";
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
    const JobContext context = Stage(name, base, *merge.add_updates());
    *merge.mutable_head()->mutable_release() = merge.updates(0).base();
    merge.set_strategy("task_arithmetic");
    (*merge.mutable_parameters())["lambda"] = "1";
    merge.set_output(v1::MergeSpec::UPLOAD);
    auto merged = RunJob(spec, context);
    ASSERT_TRUE(merged.ok()) << merged.status();
    ExpectPeft(name, base, context, merged->merge());
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
    ExpectTensors("statistics/" + strategy + ".safetensors", "llama", context,
                  merged->merge());
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
        Stage(name, Adapters().at(name), *evaluate.mutable_update());
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
