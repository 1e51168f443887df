// Changes in every code that `cairn compress` writes, pushed to a whole hub,
// screened by it, merged and evaluated by the code of a worker: a merge with
// lambda 1 is what the update expands to.

#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/tensor/checkpoint.h"
#include "core/update/checkpoint_delta.h"
#include "core/update/update.h"
#include "merge/compress/change_source.h"
#include "merge/compress/compress_update.h"
#include "merge/engine/model_identity.h"
#include "merge/worker/job_runner.h"
#include "tests/integration/update_journey.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

struct Code {
  std::string name;
  CompressOptions options = {};
};

std::vector<Code> Codes() {
  return {
      {"sparse", {.kind = Compression::kSparse, .density = 0.05}},
      {"sparse-int8",
       {.kind = Compression::kSparse,
        .density = 0.05,
        .values = ValueForm::kInt8}},
      {"ternary", {.kind = Compression::kTernary, .density = 0.2}},
      {"bit", {.kind = Compression::kBit, .sign_scale = SignScale::kRow}},
      {"int8", {.kind = Compression::kInt8}},
      {"int4", {.kind = Compression::kInt4, .group = 64}},
      {"low-rank", {.kind = Compression::kLowRank, .density = 0.02, .rank = 4}},
  };
}

class CodedPushTest : public testing::UpdateJourney {
 protected:
  CodedPushTest() {
    base_ =
        Checkpoint::OpenDirectory(testing::MergeGolden("bases/llama")).value();
    digest_ = IdentifyModel(base_, 1).value().digest;
    MakeTuned();
  }

  // The base with every float changed a little.
  void MakeTuned() {
    std::mt19937 random(5);
    std::normal_distribution<float> change(0, 0.01f);
    fs::create_directories(tuned_directory());
    fs::copy(testing::MergeGolden("bases/llama/config.json"),
             tuned_directory());
    std::vector<TensorSpec> specs;
    for (const CheckpointTensor& tensor : base_.tensors()) {
      specs.push_back(
          {.name = tensor.name, .dtype = DType::kF32, .shape = tensor.shape});
    }
    const SafetensorsLayout layout = LayOutSafetensors(specs, {}).value();
    std::string bytes = layout.header;
    for (const TensorEntry& entry : layout.tensors) {
      std::vector<float> values(static_cast<size_t>(entry.elements()));
      ASSERT_TRUE(base_.ReadFloats(entry.name, 0, absl::MakeSpan(values)).ok());
      for (float& value : values) value += change(random);
      bytes.append(reinterpret_cast<const char*>(values.data()),
                   values.size() * sizeof(float));
    }
    ASSERT_TRUE(WriteFile(tuned_directory() / "model.safetensors", bytes).ok());
  }
  fs::path tuned_directory() const { return scratch_ / "tuned"; }

  // The directory of the change in this code.
  std::string Coded(Code code) {
    const fs::path directory = scratch_ / ("update-" + code.name);
    fs::create_directories(directory);
    const Checkpoint tuned =
        Checkpoint::OpenDirectory(tuned_directory()).value();
    const auto source = MakeCheckpointChange(base_, tuned).value();
    code.options.base_digest = digest_;
    for (const CheckpointTensor& tensor : base_.tensors()) {
      code.options.base_elements += tensor.elements();
    }
    const absl::Status written = CompressChange(
        *source, directory / "cairn-update.safetensors", code.options);
    EXPECT_TRUE(written.ok()) << written;
    return directory;
  }

  Checkpoint base_;
  std::string digest_;
};

TEST_F(CodedPushTest, EveryCodeIsTakenAndPassesTheScreens) {
  CreateModel("llama");
  for (const Code& code : Codes()) {
    SCOPED_TRACE(code.name);
    auto pushed = PushDirectory(Coded(code), "llama");
    ASSERT_TRUE(pushed.ok()) << pushed.status();
    const v1::Contribution screened = Screened(pushed->name());
    EXPECT_NE(screened.state(), v1::Contribution::RECEIVED);
    EXPECT_NE(screened.state(), v1::Contribution::REJECTED)
        << screened.ShortDebugString();
  }
}

TEST_F(CodedPushTest, MergesAreWhatUpdatesExpandToAndReplay) {
  for (const Code& code : Codes()) {
    SCOPED_TRACE(code.name);
    const std::string directory = Coded(code);
    v1::JobSpec spec;
    v1::MergeSpec& merge = *spec.mutable_merge();
    const JobContext context =
        Stage(code.name, "llama", directory, *merge.add_updates());
    *merge.mutable_head()->mutable_release() = merge.updates(0).base();
    merge.set_strategy("task_arithmetic");
    (*merge.mutable_parameters())["lambda"] = "1";
    merge.set_output(v1::MergeSpec::UPLOAD);
    auto merged = RunJob(spec, context);
    ASSERT_TRUE(merged.ok()) << merged.status();
    const fs::path expanded = scratch_ / ("expanded-" + code.name);
    fs::create_directories(expanded);
    const absl::Status status =
        ExpandUpdate(base_, **OpenUpdateDirectory(directory), expanded);
    ASSERT_TRUE(status.ok()) << status;
    ExpectTensors(expanded / "model.safetensors", "llama", context,
                  merged->merge());
    merge.set_output(v1::MergeSpec::DIGEST_ONLY);
    EXPECT_EQ(RunJob(spec, context)->merge().digest(),
              merged->merge().digest());
  }
}

}  // namespace
}  // namespace cairn
