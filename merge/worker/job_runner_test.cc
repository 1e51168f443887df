#include "merge/worker/job_runner.h"

#include <ATen/Functions.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "cairn/v1/job.pb.h"
#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/delta/delta_pack.h"
#include "core/tensor/tensor_manifest.h"
#include "gtest/gtest.h"
#include "merge/engine/model_identity.h"
#include "merge/model/testing/tiny_llama.h"
#include "merge/tensor/compute.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr char kTensor[] = "model.layers.1.self_attn.q_proj.weight";
constexpr char kSuiteYaml[] =
    "name: tiny\nkind: perplexity\nmetric: perplexity\n"
    "higher_is_better: false\ndescription: d\nlicense: CC0-1.0\n"
    "splits: {search: a.jsonl, gate: a.jsonl, audit: a.jsonl}\n";
constexpr char kItems[] =
    "{\"id\": \"1\", \"input_ids\": [1, 2, 3, 4, 5, 6]}\n"
    "{\"id\": \"2\", \"input_ids\": [5, 4, 3, 2, 1], \"group\": \"g\"}\n";

void WriteFiles(const FileMap& files, const fs::path& folder) {
  fs::create_directories(folder);
  for (const auto& [path, source] : files) {
    std::ofstream(folder / path) << ReadAll(*source, 1 << 20).value();
  }
}

ParameterMap LoraParameters() {
  const std::string module = "base_model.model.model.layers.1.self_attn.q_proj";
  return {{module + ".lora_A.weight", at::randn({2, 16})},
          {module + ".lora_B.weight", at::randn({16, 2})}};
}

// A job's folder as the worker would have staged it: a release of a tiny
// Llama in BF16, a LoRA on it, a suite.
class JobRunnerTest : public ::testing::Test {
 protected:
  JobRunnerTest() {
    char folder[] = "/tmp/cairn-jobs-XXXXXX";
    root_ = mkdtemp(folder);
    context_ = {.layout = JobLayout(root_ + "/job", root_ + "/releases"),
                .threads = 2,
                .memory_bytes = 64 << 20,
                .device_class = "test",
                .progress = [](double, absl::string_view) {}};
    InitCompute();
    MakeRelease();
    MakeUpdate();
    fs::create_directories(context_.layout.Suite(0));
    std::ofstream(context_.layout.Suite(0) + "/suite.yaml") << kSuiteYaml;
    std::ofstream(context_.layout.Suite(0) + "/a.jsonl") << kItems;
  }
  ~JobRunnerTest() override { fs::remove_all(root_); }

  void MakeRelease() {
    const std::string config = testing::TinyConfig();
    ParameterMap parameters = testing::TinyParameters(config);
    for (auto& [name, value] : parameters) value = value.to(at::kBFloat16);
    StageRelease(testing::MakeCheckpointFiles(config, parameters));
  }

  void StageRelease(const FileMap& files) {
    const Checkpoint checkpoint = Checkpoint::Open(files).value();
    identity_ = IdentifyModel(checkpoint, 1).value();
    WriteFiles(files, context_.layout.Release(identity_.digest));
    release_.set_name("models/m/releases/v1.0.0");
    release_.set_digest(identity_.digest);
    const std::string manifest = SerializeTensorManifest(identity_.tensors);
    release_.set_tensor_manifest_sha256(Digest::Of(manifest).hex());
    fs::create_directories(context_.layout.blob_directory());
    std::ofstream(context_.layout.Blob(release_.tensor_manifest_sha256()))
        << manifest;
  }

  void MakeUpdate() {
    FileMap files = testing::MakeCheckpointFiles("", LoraParameters());
    files["adapter_model.safetensors"] = files.at("model.safetensors");
    files.erase("model.safetensors");
    files.erase("config.json");
    files["adapter_config.json"] = MakeMemorySource(
        R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2,
            "target_modules": ["q_proj"]})");
    WriteFiles(files, context_.layout.Update(0));
    update_.set_contribution("models/m/contributions/c");
    update_.set_digest("sha256:d");
    update_.set_encoding(v1::Encoding::LORA);
    *update_.mutable_base() = release_;
  }

  v1::SuiteInput SuiteWith(const std::string& split, bool score_base) const {
    v1::SuiteInput suite;
    suite.set_suite("models/m/suites/tiny");
    suite.set_version(3);
    suite.add_splits(split);
    suite.set_score_base(score_base);
    return suite;
  }

  v1::JobSpec MergeSpecOf(v1::MergeSpec::Output output) const {
    v1::JobSpec spec;
    v1::MergeSpec& merge = *spec.mutable_merge();
    *merge.mutable_head()->mutable_release() = release_;
    *merge.add_updates() = update_;
    merge.set_strategy("task_arithmetic");
    (*merge.mutable_parameters())["lambda"] = "0.3";
    merge.set_output(output);
    return spec;
  }

  // Merges, and makes what was uploaded the blobs of a candidate.
  v1::CandidateInput MakeCandidate() {
    const v1::JobResult merged =
        RunJob(MergeSpecOf(v1::MergeSpec::UPLOAD), context_).value();
    for (const auto& entry :
         fs::directory_iterator(context_.layout.output_directory())) {
      fs::copy(entry.path(),
               context_.layout.Blob(entry.path().filename().string()));
    }
    v1::CandidateInput candidate;
    *candidate.mutable_release() = release_;
    candidate.set_digest(merged.merge().digest());
    candidate.set_tensor_manifest_sha256(
        merged.merge().tensor_manifest_sha256());
    return candidate;
  }

  std::string root_;
  JobContext context_ = {
      .layout = JobLayout("", ""), .device_class = "", .progress = nullptr};
  ModelIdentity identity_;
  v1::ReleaseInput release_;
  v1::UpdateInput update_;
};

TEST_F(JobRunnerTest, MergeLeavesChangedTensorsAndTheManifest) {
  auto result = RunJob(MergeSpecOf(v1::MergeSpec::UPLOAD), context_);
  ASSERT_TRUE(result.ok()) << result.status();
  const v1::MergeResult& merge = result->merge();
  EXPECT_NE(merge.digest(), identity_.digest);
  EXPECT_EQ(merge.record().inputs(0).coefficient(), 0.3);
  const std::string output = context_.layout.output_directory() + "/";
  const std::string bytes =
      ReadFile(output + merge.tensor_manifest_sha256()).value();
  const v1::TensorManifest manifest = ParseTensorManifest(bytes).value();
  const v1::Tensor* tensor = FindTensor(manifest, kTensor);
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(Digest::Of(ReadFile(output + tensor->sha256()).value()).hex(),
            tensor->sha256());
  EXPECT_EQ(std::distance(fs::directory_iterator(output), {}), 2);
}

TEST_F(JobRunnerTest, DigestOnlyMergeAgreesAndLeavesNothing) {
  auto digest = RunJob(MergeSpecOf(v1::MergeSpec::DIGEST_ONLY), context_);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_TRUE(fs::is_empty(context_.layout.output_directory()));
  auto kept = RunJob(MergeSpecOf(v1::MergeSpec::UPLOAD), context_);
  EXPECT_EQ(digest->merge().digest(), kept->merge().digest());
}

TEST_F(JobRunnerTest, ADeltaMakesOneReleaseOfAnother) {
  const fs::path from = context_.layout.Release(identity_.digest);
  const fs::path to = context_.layout.Release("tuned");
  fs::copy(from, to);
  std::string bytes = ReadFile(to / "model.safetensors").value();
  for (size_t i = bytes.size() - 64; i < bytes.size(); i += 4) bytes[i] ^= 1;
  ASSERT_TRUE(WriteFile(to / "model.safetensors", bytes).ok());
  v1::JobSpec spec;
  spec.mutable_delta()->mutable_from()->set_digest(identity_.digest);
  spec.mutable_delta()->mutable_to()->set_digest("tuned");
  auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  const std::string blob = absl::StrCat(context_.layout.output_directory(), "/",
                                        result->delta().sha256());
  EXPECT_EQ(fs::file_size(blob),
            static_cast<uintmax_t>(result->delta().size_bytes()));
  EXPECT_EQ(Digest::Of(ReadFile(blob).value()).hex(), result->delta().sha256());
  auto delta = DeltaPack::Open(OpenFileSource(blob).value());
  ASSERT_TRUE(delta.ok()) << delta.status();
  const Checkpoint base = Checkpoint::OpenDirectory(from).value();
  auto rebuilt = RebuildFile(*delta, "model.safetensors", base,
                             root_ + "/rebuilt", 1, nullptr);
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->missing.empty());
  EXPECT_EQ(ReadFile(root_ + "/rebuilt").value(), bytes);
}

TEST_F(JobRunnerTest, ADeltaOfAMergeHasItsFactors) {
  const std::string from = context_.layout.Release(identity_.digest);
  const v1::JobResult merged =
      RunJob(MergeSpecOf(v1::MergeSpec::UPLOAD), context_).value();
  // The merged release: its one changed tensor in the old file.
  const std::string output = context_.layout.output_directory() + "/";
  const v1::TensorManifest manifest =
      ParseTensorManifest(
          ReadFile(output + merged.merge().tensor_manifest_sha256()).value())
          .value();
  const std::string tensor =
      ReadFile(output + FindTensor(manifest, kTensor)->sha256()).value();
  const Checkpoint base = Checkpoint::OpenDirectory(from).value();
  const auto& header = base.headers().at("model.safetensors");
  std::string bytes = ReadFile(from + "/model.safetensors").value();
  for (const TensorEntry& entry : header.tensors()) {
    if (entry.name != kTensor) continue;
    bytes.replace(static_cast<size_t>(entry.begin), tensor.size(), tensor);
  }
  const std::string to = context_.layout.Release(merged.merge().digest());
  fs::copy(from, to);
  ASSERT_TRUE(WriteFile(to + "/model.safetensors", bytes).ok());
  v1::JobSpec spec;
  v1::DeltaSpec& work = *spec.mutable_delta();
  work.mutable_from()->set_digest(identity_.digest);
  work.mutable_to()->set_digest(merged.merge().digest());
  v1::DeltaMerge::Member& member = *work.add_merges()->add_members();
  *member.mutable_update() = update_;
  member.set_coefficient(merged.merge().record().inputs(0).coefficient());
  auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  auto delta =
      DeltaPack::Open(OpenFileSource(output + result->delta().sha256()).value());
  ASSERT_TRUE(delta.ok()) << delta.status();
  // The merge is repeated to the bit: no piece has anything to add.
  const v1::DeltaTensor* described = delta->Find(kTensor);
  ASSERT_NE(described, nullptr);
  ASSERT_EQ(described->steps_size(), 1);
  EXPECT_EQ(described->piece_bytes(0), 0);
  auto rebuilt = RebuildFile(*delta, "model.safetensors", base,
                             root_ + "/rebuilt", 1, nullptr);
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->missing.empty());
  EXPECT_EQ(ReadFile(root_ + "/rebuilt").value(), bytes);
}

TEST_F(JobRunnerTest, EvaluatesAnUpdateBesideItsBase) {
  v1::JobSpec spec;
  *spec.mutable_evaluate()->mutable_base()->mutable_release() = release_;
  *spec.mutable_evaluate()->mutable_update() = update_;
  *spec.mutable_evaluate()->add_suites() = SuiteWith("gate", true);
  auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  const v1::EvaluateResult& scores = result->evaluate();
  EXPECT_EQ(scores.base_digest(), identity_.digest);
  EXPECT_EQ(scores.candidate_digest(), "");
  ASSERT_EQ(scores.base_size(), 1);
  ASSERT_EQ(scores.candidate_size(), 1);
  const v1::SplitScores& split = scores.candidate(0);
  EXPECT_EQ(split.suite(), "models/m/suites/tiny");
  EXPECT_EQ(split.suite_version(), 3);
  EXPECT_EQ(split.metric(), "perplexity");
  ASSERT_EQ(split.scores_size(), 2);
  EXPECT_EQ(split.tokens(0), 5);
  EXPECT_EQ(split.groups(1), "g");
  EXPECT_NE(split.scores(0), scores.base(0).scores(0));
}

TEST_F(JobRunnerTest, ScoresTheBaseOnlyWhereAskedTo) {
  v1::JobSpec spec;
  *spec.mutable_evaluate()->mutable_base()->mutable_release() = release_;
  *spec.mutable_evaluate()->mutable_update() = update_;
  *spec.mutable_evaluate()->add_suites() = SuiteWith("gate", false);
  auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->evaluate().base_size(), 0);

  spec.mutable_evaluate()->clear_update();  // a suite is being checked
  result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->evaluate().base_size(), 1);
  EXPECT_EQ(result->evaluate().candidate_size(), 0);
}

TEST_F(JobRunnerTest, ScoresTheItemsAskedForAsAmongAll) {
  v1::JobSpec spec;
  *spec.mutable_evaluate()->mutable_base()->mutable_release() = release_;
  *spec.mutable_evaluate()->mutable_update() = update_;
  *spec.mutable_evaluate()->add_suites() = SuiteWith("gate", true);
  const auto whole = RunJob(spec, context_);
  ASSERT_TRUE(whole.ok()) << whole.status();
  spec.mutable_evaluate()->mutable_suites(0)->add_items(1);
  const auto part = RunJob(spec, context_);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->evaluate().base(0).SerializeAsString(),
            whole->evaluate().base(0).SerializeAsString())
      << "the base is scored whole";
  const v1::SplitScores& scores = part->evaluate().candidate(0);
  ASSERT_EQ(scores.scores_size(), 1);
  EXPECT_EQ(scores.items(0), 1);
  EXPECT_EQ(scores.scores(0), whole->evaluate().candidate(0).scores(1));
  EXPECT_EQ(scores.groups(0), "g");

  spec.mutable_evaluate()->mutable_suites(0)->set_items(0, 2);
  EXPECT_EQ(RunJob(spec, context_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// With two updates of the same change: leaving one out halves what is merged.
TEST_F(JobRunnerTest, ScoresTheMergeAPlaceboAndTheMergeWithoutEach) {
  fs::copy(context_.layout.Update(0), context_.layout.Update(1));
  v1::UpdateInput other = update_;
  other.set_contribution("models/m/contributions/d");
  other.set_digest("sha256:e");
  v1::JobSpec spec;
  v1::SearchSpec& search = *spec.mutable_search();
  *search.mutable_head()->mutable_release() = release_;
  *search.add_updates() = update_;
  *search.add_updates() = other;
  search.set_strategy("task_arithmetic");
  (*search.mutable_parameters())["lambda"] = "0.3";
  *search.add_suites() = SuiteWith("search", true);
  search.set_attribute(true);
  search.set_leave_one_out(true);
  const auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  const v1::SearchResult& found = result->search();
  ASSERT_EQ(found.points_size(), 1);
  ASSERT_EQ(found.without_size(), 2);
  EXPECT_EQ(found.without(0).contribution(), update_.contribution());
  EXPECT_EQ(found.without(1).contribution(), other.contribution());
  EXPECT_EQ(found.without(0).scores(0).SerializeAsString(),
            found.without(1).scores(0).SerializeAsString());
  EXPECT_NE(found.points(0).scores(0).value(),
            found.without(0).scores(0).value());
  ASSERT_EQ(found.placebo_size(), 1);
  EXPECT_NE(found.placebo(0).value(), found.points(0).scores(0).value());
  EXPECT_NE(found.placebo(0).value(), found.base(0).value());

  // One alone is what a search at this lambda scores.
  v1::JobSpec alone = spec;
  alone.mutable_search()->clear_updates();
  *alone.mutable_search()->add_updates() = update_;
  alone.mutable_search()->clear_parameters();
  alone.mutable_search()->clear_attribute();
  alone.mutable_search()->add_lambdas(0.3);
  const auto searched = RunJob(alone, context_);
  ASSERT_TRUE(searched.ok()) << searched.status();
  EXPECT_EQ(searched->search().points(0).scores(0).SerializeAsString(),
            found.without(0).scores(0).SerializeAsString());
  EXPECT_EQ(RunJob(spec, context_)->SerializeAsString(),
            result->SerializeAsString())
      << "a placebo is the same each time";
}

TEST_F(JobRunnerTest, SearchScoresEachLambdaAsItsReleaseWouldScore) {
  const v1::CandidateInput candidate = MakeCandidate();
  v1::JobSpec spec;
  *spec.mutable_evaluate()->mutable_base()->mutable_release() = release_;
  *spec.mutable_evaluate()->mutable_candidate()->mutable_candidate() =
      candidate;
  *spec.mutable_evaluate()->add_suites() = SuiteWith("search", true);
  auto evaluated = RunJob(spec, context_);
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();
  EXPECT_EQ(evaluated->evaluate().candidate_digest(), candidate.digest());

  v1::JobSpec search_spec;
  v1::SearchSpec& search = *search_spec.mutable_search();
  *search.mutable_head()->mutable_release() = release_;
  *search.add_updates() = update_;
  search.set_strategy("task_arithmetic");
  search.add_lambdas(0.1);
  search.add_lambdas(0.3);
  *search.add_suites() = SuiteWith("search", true);
  auto searched = RunJob(search_spec, context_);
  ASSERT_TRUE(searched.ok()) << searched.status();
  ASSERT_EQ(searched->search().points_size(), 2);
  EXPECT_EQ(searched->search().points(1).scores(0).SerializeAsString(),
            evaluated->evaluate().candidate(0).SerializeAsString());
  EXPECT_EQ(searched->search().base(0).SerializeAsString(),
            evaluated->evaluate().base(0).SerializeAsString());
  EXPECT_NE(searched->search().points(0).scores(0).value(),
            searched->search().points(1).scores(0).value());
}

TEST_F(JobRunnerTest, ADamagedCopyOfAReleaseIsTheWorkersFault) {
  std::fstream file(
      context_.layout.Release(identity_.digest) + "/model.safetensors",
      std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('\x7f');
  file.close();
  auto result = RunJob(MergeSpecOf(v1::MergeSpec::UPLOAD), context_);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(FailureOf(result.status()).cause(), v1::JobFailure::WORKER);
}

TEST_F(JobRunnerTest, LeavesAResultOrAFailureBehind) {
  std::ofstream(context_.layout.spec_file())
      << MergeSpecOf(v1::MergeSpec::DIGEST_ONLY).SerializeAsString();
  EXPECT_EQ(RunJobProcessMain(context_), 0);
  v1::JobResult result;
  EXPECT_TRUE(
      result.ParseFromString(ReadFile(context_.layout.result_file()).value()));
  EXPECT_TRUE(result.has_merge());

  v1::JobSpec unfit = MergeSpecOf(v1::MergeSpec::DIGEST_ONLY);
  unfit.mutable_merge()->set_strategy("slerp");
  std::ofstream(context_.layout.spec_file()) << unfit.SerializeAsString();
  EXPECT_EQ(RunJobProcessMain(context_), 0);
  v1::JobFailure failure;
  EXPECT_TRUE(failure.ParseFromString(
      ReadFile(context_.layout.failure_file()).value()));
  EXPECT_EQ(failure.cause(), v1::JobFailure::INPUT);
  EXPECT_EQ(failure.reason().code(), v1::Reason::UNSUPPORTED);
}

TEST_F(JobRunnerTest, RunsTorchScriptWhereTheSpecSaysSo) {
  const char* const source = getenv("CAIRN_SOURCE_DIR");
  const std::string folder = absl::StrCat(source == nullptr ? "." : source,
                                          "/tests/testdata/torchscript/gptj/");
  FileMap files;
  for (const char* name :
       {"config.json", "model.safetensors", "torchscript.pt"}) {
    files[name] = MakeMemorySource(ReadFile(folder + name).value());
  }
  const std::string plain = identity_.digest;
  StageRelease(files);
  EXPECT_NE(identity_.digest, plain);
  v1::JobSpec spec;
  *spec.mutable_evaluate()->mutable_base()->mutable_release() = release_;
  *spec.mutable_evaluate()->add_suites() = SuiteWith("gate", true);
  const auto refused = RunJob(spec, context_);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(FailureOf(refused.status()).cause(), v1::JobFailure::INPUT);
  spec.mutable_evaluate()->set_torchscript(true);
  const auto result = RunJob(spec, context_);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->evaluate().base_size(), 1);
  EXPECT_EQ(result->evaluate().base(0).scores_size(), 2);
  EXPECT_GT(result->evaluate().base(0).value(), 1);
}

}  // namespace
}  // namespace cairn
