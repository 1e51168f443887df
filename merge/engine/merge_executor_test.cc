#include "merge/engine/merge_executor.h"

#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/update.h"
#include "core/update/update_statistics.h"
#include "gtest/gtest.h"
#include "merge/engine/checkpoint_writer.h"
#include "merge/engine/model_identity.h"

namespace cairn {
namespace {

using Metadata = std::map<std::string, std::string>;

struct Values {
  DType dtype;
  std::vector<int64_t> shape;
  std::vector<float> floats;
};
using Tensors = std::map<std::string, Values>;

Values Random(DType dtype, std::vector<int64_t> shape, float scale,
              uint32_t seed) {
  Values values = {dtype, std::move(shape), {}};
  int64_t elements = 1;
  for (int64_t d : values.shape) elements *= d;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  for (int64_t i = 0; i < elements; ++i) {
    values.floats.push_back(normal(random));
  }
  // What is stored is what is compared with.
  std::vector<char> bytes(values.floats.size() *
                          static_cast<size_t>(DTypeBits(dtype) / 8));
  FromFloats(dtype, values.floats, absl::MakeSpan(bytes));
  ToFloats(dtype, bytes, absl::MakeSpan(values.floats));
  return values;
}

SharedSource FileOf(const Tensors& tensors, const Metadata& metadata = {}) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, values] : tensors) {
    specs.push_back({name, values.dtype, values.shape});
  }
  const SafetensorsLayout layout =
      LayOutSafetensors(std::move(specs), metadata).value();
  std::string bytes = layout.header;
  for (const TensorEntry& entry : layout.tensors) {
    std::string packed(static_cast<size_t>(entry.size_bytes()), '\0');
    FromFloats(entry.dtype, tensors.at(entry.name).floats,
               absl::MakeSpan(packed));
    bytes += packed;
  }
  return MakeMemorySource(std::move(bytes));
}

Checkpoint CheckpointOf(const Tensors& tensors) {
  return Checkpoint::Open(
             {{"config.json", MakeMemorySource(R"({"model_type": "llama"})")},
              {"model.safetensors", FileOf(tensors)}})
      .value();
}

constexpr int64_t kRows = 160, kColumns = 520, kRank = 3;  // several tiles

Tensors BaseTensors(DType dtype, uint32_t seed = 1) {
  return {{"layers.q.weight", Random(dtype, {kRows, kColumns}, 0.05f, seed)},
          {"layers.v.weight", Random(dtype, {40, 24}, 0.05f, seed + 1)},
          {"norm.weight", Random(dtype, {24}, 1.0f, seed + 2)}};
}

struct Lora {
  Values a, b;
  std::unique_ptr<Update> update;

  explicit Lora(uint32_t seed, float scale = 0.05f)
      : a(Random(DType::kF32, {kRank, kColumns}, scale, seed)),
        b(Random(DType::kF32, {kRows, kRank}, scale, seed + 50)) {
    const std::string module = "base_model.model.layers.q";
    update = OpenUpdate({{kAdapterConfigFile,
                          MakeMemorySource(R"({"peft_type": "LORA", "r": 3,
                     "lora_alpha": 6, "target_modules": ["q"]})")},
                         {kAdapterWeightsFile,
                          FileOf({{module + ".lora_A.weight", a},
                                  {module + ".lora_B.weight", b}})}})
                 .value();
  }

  double Delta(size_t element) const {
    const size_t row = element / kColumns, column = element % kColumns;
    double sum = 0;
    for (size_t k = 0; k < kRank; ++k) {
      sum += static_cast<double>(b.floats[row * kRank + k]) *
             static_cast<double>(a.floats[k * kColumns + column]);
    }
    return 2 * sum;
  }
};

std::unique_ptr<Update> DenseUpdate(const Tensors& tensors,
                                    const std::string& base_digest) {
  return OpenUpdate(
             {{kUpdateFile, FileOf(tensors, {{"cairn.format", "dense"},
                                             {"cairn.version", "1"},
                                             {"cairn.base", base_digest}})}})
      .value();
}

// A Fisher diagonal and a Gram matrix of the inputs of one matrix.
std::unique_ptr<UpdateStatistics> StatisticsOf(const std::string& tensor,
                                               int64_t rows, int64_t columns,
                                               uint32_t seed) {
  const auto positive = [&](int64_t count, uint32_t more) {
    Values values = Random(DType::kF32, {count}, 1.0f, seed + more);
    for (float& value : values.floats) value = value * value + 0.1f;
    return values;
  };
  // The identity and a little: positive definite.
  Values half = Random(DType::kF32, {columns * (columns + 1) / 2}, 1e-3f, seed);
  for (int64_t i = 0; i < columns; ++i) {
    half.floats[static_cast<size_t>(i * (i + 1) / 2 + i)] =
        1.0f + 0.1f * static_cast<float>(seed % 7);
  }
  return UpdateStatistics::Open(
             FileOf({{"fisher.rows/" + tensor, positive(rows, 1)},
                     {"fisher.columns/" + tensor, positive(columns, 2)},
                     {"gram/x", half}},
                    {{"cairn.format", "statistics"},
                     {"cairn.version", "1"},
                     {"cairn.grams", "{\"" + tensor + "\":\"x\"}"}}))
      .value();
}

// Two LoRAs on the head and a dense update that was made on an older release.
class MergeExecutorTest : public ::testing::Test {
 protected:
  explicit MergeExecutorTest(DType dtype = DType::kBF16)
      : head_values_(BaseTensors(dtype)),
        old_values_(BaseTensors(dtype, 90)),
        head_(CheckpointOf(head_values_)),
        old_(CheckpointOf(old_values_)),
        identity_(IdentifyModel(head_, 1).value()) {
    tuned_ = old_values_.at("layers.v.weight");
    for (size_t i = 0; i < tuned_.floats.size(); i += 3) {
      tuned_.floats[i] += 0.25f;
    }
    std::vector<char> bytes(tuned_.floats.size() *
                            static_cast<size_t>(DTypeBits(dtype) / 8));
    FromFloats(dtype, tuned_.floats, absl::MakeSpan(bytes));
    ToFloats(dtype, bytes, absl::MakeSpan(tuned_.floats));
    dense_ = DenseUpdate({{"layers.v.weight", tuned_}},
                         IdentifyModel(old_, 1)->digest);
    first_.update->Attach(
        StatisticsOf("layers.q.weight", kRows, kColumns, 3));
    second_.update->Attach(
        StatisticsOf("layers.q.weight", kRows, kColumns, 4));
    dense_->Attach(StatisticsOf("layers.v.weight", 40, 24, 5));
  }

  MergeRequest Request(const std::string& strategy,
                       std::map<std::string, std::string> parameters = {}) {
    return {.head = &head_,
            .head_identity = &identity_,
            .inputs = {Input("b", *first_.update, head_),
                       Input("a", *second_.update, head_),
                       Input("c", *dense_, old_)},
            .strategy = strategy,
            .parameters = std::move(parameters),
            .seed = 0,
            .device_class = "test"};
  }

  static MergeInput Input(const std::string& digest, const Update& update,
                          const Checkpoint& base) {
    return {.contribution = "contributions/" + digest,
            .digest = digest,
            .base_digest = "",
            .update = &update,
            .base = &base};
  }

  // Merges into memory.
  absl::StatusOr<MergeOutcome> Merge(const MergeRequest& request,
                                     const MergeOptions& options = {}) {
    bytes_.clear();
    auto plan = PlanMerge(request, options);
    if (!plan.ok()) return plan.status();
    return RunMerge(request, *plan,
                    [this](const CheckpointTensor& tensor, int64_t offset,
                           absl::Span<const char> bytes) {
                      MutexLock lock(mutex_);
                      std::string& all = bytes_[tensor.name];
                      EXPECT_EQ(static_cast<int64_t>(all.size()), offset);
                      all.append(bytes.data(), bytes.size());
                      return absl::OkStatus();
                    });
  }

  std::vector<float> Merged(const std::string& name) {
    const Values& like = head_values_.at(name);
    std::vector<float> floats(like.floats.size());
    ToFloats(like.dtype, bytes_.at(name), absl::MakeSpan(floats));
    return floats;
  }

  Tensors head_values_, old_values_;
  Checkpoint head_, old_;
  ModelIdentity identity_;
  Lora first_{10}, second_{20};
  Values tuned_;
  std::unique_ptr<Update> dense_;
  Mutex mutex_;
  std::map<std::string, std::string> bytes_;
};

class MergeExecutorF32Test : public MergeExecutorTest {
 protected:
  MergeExecutorF32Test() : MergeExecutorTest(DType::kF32) {}
};

double Bf16Ulp(double x) {
  return std::exp2(std::floor(std::log2(std::max(std::fabs(x), 1e-38))) - 7);
}

TEST_F(MergeExecutorTest, LinearMergeIsRoundedOnceFromTheExactSum) {
  auto outcome = Merge(Request("task_arithmetic", {{"lambda", "0.4"}}));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const std::vector<float> q = Merged("layers.q.weight");
  const std::vector<float>& head = head_values_.at("layers.q.weight").floats;
  for (size_t i = 0; i < q.size(); ++i) {
    const double want = static_cast<double>(head[i]) +
                        0.4 * (first_.Delta(i) + second_.Delta(i));
    ASSERT_LE(std::fabs(static_cast<double>(q[i]) - want), 0.51 * Bf16Ulp(want))
        << i;
  }
}

TEST_F(MergeExecutorTest, AStaleUpdateIsItsChangeAgainstItsOwnBase) {
  auto outcome = Merge(Request("task_arithmetic"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const std::vector<float> v = Merged("layers.v.weight");
  const std::vector<float>& head = head_values_.at("layers.v.weight").floats;
  const std::vector<float>& old = old_values_.at("layers.v.weight").floats;
  for (size_t i = 0; i < v.size(); ++i) {
    const double want = static_cast<double>(head[i]) +
                        static_cast<double>(tuned_.floats[i]) -
                        static_cast<double>(old[i]);
    ASSERT_LE(std::fabs(static_cast<double>(v[i]) - want), 0.51 * Bf16Ulp(want))
        << i;
  }
}

TEST_F(MergeExecutorF32Test, FisherWeighsChangesByWhatTheirAuthorsMeasured) {
  ASSERT_TRUE(Merge(Request("fisher", {{"normalize", "0"}})).ok());
  const std::vector<float> q = Merged("layers.q.weight");
  const std::vector<float>& head = head_values_.at("layers.q.weight").floats;
  std::vector<float> a(q.size()), b(q.size());
  for (const auto& [lora, out] : {std::pair(&first_, &a), {&second_, &b}}) {
    ASSERT_TRUE(lora->update->statistics()
                    ->ReadFisher("layers.q.weight", 0, kColumns,
                                 absl::MakeSpan(*out))
                    .ok());
  }
  for (size_t i = 0; i < q.size(); ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    const double want =
        static_cast<double>(head[i]) +
        (x * first_.Delta(i) + y * second_.Delta(i)) / (x + y);
    ASSERT_NEAR(static_cast<double>(q[i]), want, 1e-6) << i;
  }
  // The tensor that one alone changes takes its change whole.
  const std::vector<float> v = Merged("layers.v.weight");
  for (size_t i = 0; i < v.size(); ++i) {
    ASSERT_NEAR(v[i],
                head_values_.at("layers.v.weight").floats[i] +
                    tuned_.floats[i] -
                    old_values_.at("layers.v.weight").floats[i],
                1e-6);
  }
}

TEST_F(MergeExecutorF32Test, RegmeanSolvesForTheAuthorsInputs) {
  // W G = W_1 G_1 + W_2 G_2, of the changes, G the sum.
  ASSERT_TRUE(
      Merge(Request("regmean", {{"alpha", "1"}, {"ridge", "0"}})).ok());
  const std::vector<float> q = Merged("layers.q.weight");
  const std::vector<float>& head = head_values_.at("layers.q.weight").floats;
  const auto gram = [](const std::vector<float>& half, int64_t r, int64_t c) {
    const int64_t low = std::max(r, c), high = std::min(r, c);
    return static_cast<double>(
        half[static_cast<size_t>(low * (low + 1) / 2 + high)]);
  };
  const auto a =
      first_.update->statistics()->ReadGram("layers.q.weight").value();
  const auto b =
      second_.update->statistics()->ReadGram("layers.q.weight").value();
  for (int64_t row : {0, 77, 159}) {
    for (int64_t column : {0, 300, 519}) {
      double left = 0, right = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        const auto at = static_cast<size_t>(row * kColumns + k);
        const double x = gram(a, k, column), y = gram(b, k, column);
        left += (static_cast<double>(q[at]) - static_cast<double>(head[at])) *
                (x + y);
        right += first_.Delta(at) * x + second_.Delta(at) * y;
      }
      ASSERT_NEAR(left, right, 1e-5) << row << " " << column;
    }
  }
}

TEST_F(MergeExecutorTest, NamesTheUpdateThatMeasuredNothing) {
  second_.update->Attach(nullptr);
  const absl::Status status = Merge(Request("fisher")).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_NE(status.message().find("contributions/a brings no Fisher diagonal"),
            absl::string_view::npos)
      << status;
  const absl::Status some = Merge(Request("regmean")).status();
  EXPECT_NE(some.message().find("only 1 of 2"), absl::string_view::npos)
      << some;
  first_.update->Attach(nullptr);
  dense_->Attach(nullptr);
  EXPECT_TRUE(Merge(Request("regmean")).ok()) << "then it averages";
}

TEST_F(MergeExecutorTest, BytesDoNotDependOnThreadsMemoryOrOrder) {
  constexpr int64_t small = int64_t{1} << 20;
  for (const StrategySpec& strategy : AllStrategies()) {
    SCOPED_TRACE(strategy.name);
    MergeRequest request =
        Request(strategy.name, {{"clip_norm", "median"}});
    auto first = Merge(request);
    ASSERT_TRUE(first.ok()) << first.status();
    const auto bytes = bytes_;
    std::reverse(request.inputs.begin(), request.inputs.end());
    for (int threads : {1, 2, 5}) {
      for (int64_t memory : {small, int64_t{1} << 30}) {
        auto again =
            Merge(request, {.threads = threads, .memory_bytes = memory});
        if (GetReason(again.status()).has_value() &&
            GetReason(again.status())->code == "LIMIT_EXCEEDED") {
          ASSERT_EQ(memory, small);  // whole matrices take more
          continue;
        }
        ASSERT_TRUE(again.ok()) << again.status();
        EXPECT_EQ(bytes_, bytes);
        EXPECT_EQ(again->record.DebugString(), first->record.DebugString());
      }
    }
  }
}

TEST_F(MergeExecutorF32Test, ClipsUpdatesToTheMedianLength) {
  const Lora large(10, 0.5f);  // a hundred times the first
  MergeRequest request =
      Request("task_arithmetic", {{"clip_norm", "median"}});
  request.inputs = {Input("a", *first_.update, head_),
                    Input("b", *second_.update, head_),
                    Input("c", *large.update, head_)};
  auto outcome = Merge(request);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  double lengths[3] = {};
  for (size_t i = 0; i < kRows * kColumns; ++i) {
    lengths[0] += first_.Delta(i) * first_.Delta(i);
    lengths[1] += second_.Delta(i) * second_.Delta(i);
    lengths[2] += large.Delta(i) * large.Delta(i);
  }
  const double median = std::sqrt(std::max(lengths[0], lengths[1]));
  const double clip = median / std::sqrt(lengths[2]);
  EXPECT_NEAR(outcome->record.inputs(2).coefficient(), clip, 1e-6);
  EXPECT_EQ(outcome->record.inputs(0).coefficient(), 1.0);
  const std::vector<float> q = Merged("layers.q.weight");
  const std::vector<float>& head = head_values_.at("layers.q.weight").floats;
  for (size_t i = 0; i < q.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(q[i]),
                static_cast<double>(head[i]) + first_.Delta(i) +
                    second_.Delta(i) + clip * large.Delta(i),
                1e-6);
  }
}

TEST_F(MergeExecutorTest, RefusesUpdatesThatAreAsGoodAsEqual) {
  MergeRequest request = Request("average", {{"duplicates", "refuse"}});
  EXPECT_TRUE(Merge(request).ok());
  const Lora again(10, 0.0503f);  // the first, a little longer
  request.inputs.push_back(Input("d", *again.update, head_));
  const absl::Status status = Merge(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status)->code, "DUPLICATE");
  EXPECT_EQ(GetReason(status)->details.at("contribution"), "contributions/d");
  request.parameters["duplicates"] = "allow";
  EXPECT_TRUE(Merge(request).ok());
}

TEST_F(MergeExecutorTest, WholeMatricesThatDoNotFitAreRefusedByName) {
  const absl::Status status =
      PlanMerge(Request("tsv_m"), {.memory_bytes = int64_t{2} << 20}).status();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(GetReason(status)->code, "LIMIT_EXCEEDED");
  EXPECT_NE(status.message().find("layers.q.weight"), std::string::npos);
}

TEST_F(MergeExecutorTest, RecordsInputsByDigestWithFinalFactors) {
  auto outcome = Merge(Request("average"));
  ASSERT_TRUE(outcome.ok());
  ASSERT_EQ(outcome->record.inputs_size(), 3);
  EXPECT_EQ(outcome->record.inputs(0).digest(), "a");
  EXPECT_EQ(outcome->record.inputs(2).digest(), "c");
  for (const auto& input : outcome->record.inputs()) {
    EXPECT_DOUBLE_EQ(input.coefficient(), 1.0 / 3);
    EXPECT_GT(input.survived(), 0.9);
  }
  EXPECT_EQ(outcome->record.head_digest(), identity_.digest);
  EXPECT_EQ(outcome->record.digest(), outcome->digest);
}

TEST_F(MergeExecutorTest, TheDigestIsThatOfTheWrittenCheckpoint) {
  char folder[] = "/tmp/cairn-merge-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const MergeRequest request = Request("average");
  const MergePlan plan = PlanMerge(request, {}).value();
  auto writer = CheckpointWriter::Create(
      head_, folder, {"layers.q.weight", "layers.v.weight"});
  ASSERT_TRUE(writer.ok()) << writer.status();
  auto outcome = RunMerge(request, plan,
                          [&](const CheckpointTensor& tensor, int64_t offset,
                              absl::Span<const char> bytes) {
                            return (*writer)->Write(tensor, offset, bytes);
                          });
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_TRUE(std::move(**writer).Finish().ok());
  auto written = Checkpoint::OpenDirectory(folder);
  ASSERT_TRUE(written.ok()) << written.status();
  const ModelIdentity identity = IdentifyModel(*written, 2).value();
  EXPECT_EQ(identity.digest, outcome->digest);
  EXPECT_EQ(SerializeTensorManifest(identity.tensors),
            SerializeTensorManifest(outcome->tensors));
  EXPECT_NE(outcome->digest, identity_.digest);
  EXPECT_EQ(FindTensor(identity.tensors, "norm.weight")->sha256(),
            FindTensor(identity_.tensors, "norm.weight")->sha256());
  std::filesystem::remove_all(folder);
}

TEST_F(MergeExecutorTest, ReportsWhatRoundingSwallows) {
  const Lora faint(30, 1e-4f);
  MergeRequest request = Request("average");
  request.inputs = {Input("a", *faint.update, head_)};
  auto outcome = Merge(request);
  ASSERT_TRUE(outcome.ok());
  EXPECT_LT(outcome->record.inputs(0).survived(), 0.6);
}

TEST_F(MergeExecutorTest, RefusesAResultThatIsNotFinite) {
  const Lora huge(30, 1e19f);
  MergeRequest request = Request("task_arithmetic", {{"lambda", "1000"}});
  request.inputs.push_back(Input("d", *huge.update, head_));
  auto outcome = Merge(request);
  ASSERT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(outcome.status())->code, "NON_FINITE");
  EXPECT_EQ(GetReason(outcome.status())->details.at("tensor"),
            "layers.q.weight");
}

TEST_F(MergeExecutorTest, RefusesAnUpdateWhoseTensorTheHeadHasNot) {
  Tensors other = head_values_;
  other["layers.v.weight"] = Random(DType::kBF16, {41, 24}, 0.1f, 5);
  const Checkpoint head = CheckpointOf(other);
  MergeRequest request = Request("average");
  request.head = &head;
  const absl::Status status = PlanMerge(request, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status)->code, "STALE_BASE");
  EXPECT_EQ(GetReason(status)->details.at("contribution"), "contributions/c");
}

TEST_F(MergeExecutorTest, SaysWhenMemoryIsTooSmall) {
  const absl::Status status =
      PlanMerge(Request("average"), {.memory_bytes = 1000}).status();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(GetReason(status)->code, "LIMIT_EXCEEDED");
}

TEST_F(MergeExecutorTest, PlansWithinTheMemoryItWasGiven) {
  const MergePlan plan =
      PlanMerge(Request("average"),
                {.threads = 8, .memory_bytes = int64_t{2} << 20})
          .value();
  EXPECT_LE(plan.memory_bytes, int64_t{2} << 20);
  EXPECT_EQ(plan.tensors.size(), 2u);
  EXPECT_EQ(plan.bytes_written, (kRows * kColumns + 40 * 24) * 2);
}

TEST_F(MergeExecutorTest, PassesOnWhatTheSinkSays) {
  const MergeRequest request = Request("average");
  const MergePlan plan = PlanMerge(request, {}).value();
  auto outcome = RunMerge(request, plan, [](auto&&...) {
    return absl::ResourceExhaustedError("disk full");
  });
  EXPECT_TRUE(absl::IsResourceExhausted(outcome.status()));
}

TEST_F(MergeExecutorF32Test, MergesF32Heads) {
  auto outcome = Merge(Request("task_arithmetic"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  const std::vector<float> q = Merged("layers.q.weight");
  const std::vector<float>& head = head_values_.at("layers.q.weight").floats;
  for (size_t i = 0; i < q.size(); ++i) {
    ASSERT_NEAR(
        static_cast<double>(q[i]),
        static_cast<double>(head[i]) + first_.Delta(i) + second_.Delta(i),
        1e-7);
  }
  EXPECT_GT(outcome->record.inputs(0).survived(), 0.999);
}

}  // namespace
}  // namespace cairn
