#include "merge/train/training_run.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/tensor/checkpoint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr char kConfig[] = R"({
  "architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "torch_dtype": "bfloat16", "vocab_size": 64, "hidden_size": 16,
  "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
  "num_key_value_heads": 1, "max_position_embeddings": 32,
  "tie_word_embeddings": true, "hidden_act": "silu", "rms_norm_eps": 1e-6,
  "rope_theta": 10000.0})";

class TrainingRunTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = ::testing::TempDir() + "/training_run_test/" +
            ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(root_);
    fs::create_directories(root_);
    std::ofstream(root_ + "/config.json") << kConfig;
    std::ofstream(root_ + "/tokenizer.json") << "{}";
    std::ofstream text(root_ + "/text", std::ios::binary);
    for (int i = 0; i < 3000; ++i) text << static_cast<char>(i * i % 61);
  }

  TrainRequest Request(TuningMethod method, const std::string& out) const {
    TrainRequest request;
    request.data = {{root_ + "/text", 1}};
    request.method = method;
    request.model = root_ + "/base";
    request.trainer.schedule = {.peak = 5e-3, .steps = 12};
    request.trainer.batch = 4;
    request.trainer.window = 16;
    request.trainer.seed = 11;
    request.density = 0.02;
    request.fisher_batches = 2;
    request.low_rank.rank = 2;
    request.out = root_ + "/" + out;
    return request;
  }

  // A new model in ROOT/base.
  TrainReport MakeBase() const {
    TrainRequest request = Request(TuningMethod::kFull, "base");
    request.model.clear();
    request.init_config = root_ + "/config.json";
    request.trainer.schedule.steps = 60;
    const auto report = RunTraining(request, {}, [](const auto&) {});
    EXPECT_TRUE(report.ok()) << report.status();
    return *report;
  }

  static std::map<std::string, std::string> Files(const std::string& path) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::directory_iterator(path)) {
      files[entry.path().filename()] = *ReadFile(entry.path());
    }
    return files;
  }

  std::string root_;
};

TEST_F(TrainingRunTest, MakesANewModelThatLearns) {
  const TrainReport report = MakeBase();
  EXPECT_LT(report.loss, 3.5);  // ln 64 is 4.16
  const auto files = Files(root_ + "/base");
  EXPECT_EQ(files.at("config.json"), kConfig);
  EXPECT_TRUE(files.contains("tokenizer.json"));
  EXPECT_THAT(files.at("recipe.json"), HasSubstr("\"dataDigest\""));
  EXPECT_EQ(files.size(), 4U);
}

TEST_F(TrainingRunTest, SameBytesOnAnyThreadsAndAfterAnInterruption) {
  MakeBase();
  for (const TuningMethod method :
       {TuningMethod::kLora, TuningMethod::kSparse, TuningMethod::kFull}) {
    const std::string name = MethodName(method);
    TrainRequest one = Request(method, name + "1");
    TrainRequest two = Request(method, name + "2");
    two.threads = 2;
    TrainRequest broken = Request(method, name + "3");
    ASSERT_TRUE(RunTraining(one, {}, [](const auto&) {}).ok());
    ASSERT_TRUE(RunTraining(two, {}, [](const auto&) {}).ok());
    const auto stop = std::make_unique<std::stop_source>();
    const auto interrupted = RunTraining(broken, stop->get_token(),
                                         [&stop](const TrainProgress& at) {
                                           if (at.step == 5)
                                             stop->request_stop();
                                         });
    EXPECT_EQ(interrupted.status().code(), absl::StatusCode::kCancelled);
    EXPECT_FALSE(fs::exists(broken.out));
    int64_t steps = 0;
    ASSERT_TRUE(
        RunTraining(broken, {}, [&steps](const auto&) { ++steps; }).ok());
    EXPECT_EQ(steps, 7);
    EXPECT_EQ(Files(one.out), Files(two.out)) << name;
    EXPECT_EQ(Files(one.out), Files(broken.out)) << name;
    EXPECT_FALSE(fs::exists(broken.out + ".partial"));
  }
}

TEST_F(TrainingRunTest, SparseChangesTheMaskedValuesOnly) {
  MakeBase();
  TrainRequest request = Request(TuningMethod::kSparse, "sparse");
  request.tuned_out = root_ + "/tuned";
  const auto report = RunTraining(request, {}, [](const auto&) {});
  ASSERT_TRUE(report.ok()) << report.status();
  const auto base = Checkpoint::OpenDirectory(request.model);
  const auto tuned = Checkpoint::OpenDirectory(request.tuned_out);
  ASSERT_TRUE(base.ok() && tuned.ok());
  int64_t changed = 0;
  for (const CheckpointTensor& tensor : base->tensors()) {
    std::vector<float> before(static_cast<size_t>(tensor.elements()));
    std::vector<float> after(before.size());
    ASSERT_TRUE(base->ReadFloats(tensor.name, 0, absl::MakeSpan(before)).ok());
    ASSERT_TRUE(tuned->ReadFloats(tensor.name, 0, absl::MakeSpan(after)).ok());
    int64_t here = 0;
    for (size_t i = 0; i < before.size(); ++i) here += before[i] != after[i];
    if (tensor.shape.size() != 2 ||
        tensor.name.find("embed") != tensor.name.npos) {
      EXPECT_EQ(here, 0) << tensor.name;
    }
    changed += here;
  }
  EXPECT_EQ(report->trained_parameters,
            static_cast<int64_t>(
                0.02 * static_cast<double>(report->model_parameters)));
  EXPECT_GT(changed, report->trained_parameters / 2);
  EXPECT_LE(changed, report->trained_parameters);
}

TEST_F(TrainingRunTest, RefusesWhatItCannotFinish) {
  MakeBase();
  TrainRequest request = Request(TuningMethod::kLora, "out");
  const auto code = [](const TrainRequest& asked) {
    return RunTraining(asked, {}, [](const auto&) {}).status().code();
  };
  request.targets = {"no_such_module"};
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
  request = Request(TuningMethod::kLora, "base");
  EXPECT_EQ(code(request), absl::StatusCode::kFailedPrecondition);
  request = Request(TuningMethod::kLora, "out");
  request.trainer.window = 64;
  EXPECT_EQ(code(request), absl::StatusCode::kInvalidArgument);
  request = Request(TuningMethod::kLora, "out");
  request.model = root_ + "/absent";
  EXPECT_EQ(code(request), absl::StatusCode::kNotFound);
}

TEST_F(TrainingRunTest, LeavesAnotherRunsStateAlone) {
  MakeBase();
  TrainRequest request = Request(TuningMethod::kLora, "out");
  const auto stop = std::make_unique<std::stop_source>();
  stop->request_stop();
  EXPECT_EQ(RunTraining(request, stop->get_token(), [](const auto&) {})
                .status()
                .code(),
            absl::StatusCode::kCancelled);
  request.trainer.seed = 12;
  EXPECT_EQ(RunTraining(request, {}, [](const auto&) {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  request.trainer.seed = 11;
  EXPECT_TRUE(RunTraining(request, {}, [](const auto&) {}).ok());
}

}  // namespace
}  // namespace cairn
