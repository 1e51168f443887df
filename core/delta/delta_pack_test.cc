#include "core/delta/delta_pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/delta/delta_pack_form.h"
#include "core/delta/delta_pack_writer.h"
#include "core/delta/low_rank_steps.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// name: dtype, shape, bytes
struct Content {
  DType dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};
using Tensors = std::map<std::string, Content>;

Content MakeContent(DType dtype, int64_t elements, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(static_cast<size_t>(elements));
  for (float& value : values) value = normal(random);
  Content content{dtype, {elements}, ""};
  content.bytes.resize(values.size() *
                       static_cast<size_t>(DTypeBits(dtype) / 8));
  FromFloats(dtype, values, absl::MakeSpan(content.bytes));
  return content;
}

Content Nudged(Content content, uint32_t seed) {
  std::mt19937 random(seed);
  for (char& c : content.bytes) {
    if (random() % 8 == 0) c = static_cast<char>(c ^ 1);
  }
  return content;
}

class DeltaPackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::path(::testing::TempDir()) /
            ("delta_pack_" + ToHex(RandomBytes(6)));
    old_["big"] = MakeContent(DType::kBF16, 3'000'000, 1);
    old_["same"] = MakeContent(DType::kF32, 1000, 2);
    old_["norm"] = MakeContent(DType::kF32, 500, 3);
    old_["gone"] = MakeContent(DType::kF16, 10, 4);
    old_["reshaped"] = MakeContent(DType::kBF16, 64, 5);
    old_["empty"] = {DType::kI64, {0}, ""};
    new_ = old_;
    new_["big"] = Nudged(old_["big"], 6);
    new_["norm"] = Nudged(old_["norm"], 7);
    new_.erase("gone");
    new_["reshaped"].shape = {8, 8};
    new_["fresh"] = MakeContent(DType::kBF16, 4096, 8);
    Write("old", old_);
    Write("new", new_);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string Path(const std::string& name) const { return root_ / name; }

  void Write(const std::string& name, const Tensors& tensors) {
    ASSERT_TRUE(MakeDirectory(Path(name)).ok());
    std::vector<TensorSpec> specs;
    for (const auto& [tensor, content] : tensors) {
      specs.push_back({tensor, content.dtype, content.shape});
    }
    auto writer = SafetensorsWriter::Create(Path(name) + "/model.safetensors",
                                            specs, {{"format", "pt"}});
    ASSERT_TRUE(writer.ok()) << writer.status();
    for (const auto& [tensor, content] : tensors) {
      ASSERT_TRUE((*writer)->Write(tensor, 0, content.bytes).ok());
    }
    ASSERT_TRUE((std::move(**writer)).Finish().ok());
  }

  Checkpoint Open(const std::string& name) const {
    return *Checkpoint::OpenDirectory(Path(name));
  }

  absl::StatusOr<WrittenDelta> MakeDelta(int threads) {
    const Checkpoint from = Open("old");
    const Checkpoint to = Open("new");
    return WriteDeltaPack(from, to, Path("delta"),
                          {.from_digest = "sha256:old",
                           .to_digest = "sha256:new",
                           .threads = threads,
                           .progress = nullptr});
  }

  static absl::StatusOr<DeltaPack> OpenBytes(std::string bytes) {
    return DeltaPack::Open(MakeMemorySource(std::move(bytes)));
  }

  std::vector<std::string> RebuildFrom(const DeltaPack& delta,
                                       const std::string& base) {
    const Checkpoint from = Open(base);
    auto rebuilt = RebuildFile(delta, "model.safetensors", from,
                               Path("rebuilt"), 3, nullptr);
    EXPECT_TRUE(rebuilt.ok()) << rebuilt.status();
    std::vector<std::string> missing;
    for (const TensorEntry& tensor : rebuilt->missing) {
      missing.push_back(tensor.name);
    }
    return missing;
  }

  std::string Bytes(const std::string& name) const {
    return *ReadFile(Path(name));
  }

  fs::path root_;
  Tensors old_;
  Tensors new_;
};

TEST_F(DeltaPackTest, MakesTheNewerFileOfTheOlderOne) {
  auto written = MakeDelta(2);
  ASSERT_TRUE(written.ok()) << written.status();
  const std::string bytes = Bytes("delta");
  EXPECT_EQ(static_cast<int64_t>(bytes.size()), written->size_bytes);
  EXPECT_EQ(Digest::Of(bytes).hex(), written->sha256);
  EXPECT_LT(bytes.size(), Bytes("new/model.safetensors").size() / 3);

  auto delta = OpenBytes(bytes);
  ASSERT_TRUE(delta.ok()) << delta.status();
  EXPECT_EQ(delta->from_digest(), "sha256:old");
  EXPECT_EQ(delta->to_digest(), "sha256:new");
  EXPECT_EQ(delta->Find("same"), nullptr);
  EXPECT_TRUE(delta->Find("fresh")->is_new());
  EXPECT_THAT(RebuildFrom(*delta, "old"), IsEmpty());
  EXPECT_EQ(Bytes("rebuilt"), Bytes("new/model.safetensors"));
  EXPECT_EQ(
      RebuildFile(*delta, "other", Open("old"), Path("rebuilt"), 1, nullptr)
          .status()
          .code(),
      absl::StatusCode::kNotFound);
}

TEST_F(DeltaPackTest, RowsThatCameOrWentCostNoOthers) {
  constexpr int64_t kColumns = 1000;
  const Content rows = MakeContent(DType::kBF16, 3100 * kColumns, 9);
  const auto first = [&](int64_t count) {
    const auto bytes = static_cast<size_t>(count * kColumns * 2);
    return Content{
        DType::kBF16, {count, kColumns}, rows.bytes.substr(0, bytes)};
  };
  old_ = {{"grown", first(3000)}, {"shrunk", first(3100)}};
  new_ = {{"grown", first(3100)}, {"shrunk", first(2900)}};
  Write("old", old_);
  Write("new", new_);
  auto written = MakeDelta(2);
  ASSERT_TRUE(written.ok()) << written.status();
  // The last hundred rows; in full, they take two thirds.
  EXPECT_LT(written->size_bytes, 100 * kColumns * 2);
  EXPECT_GT(written->size_bytes, 100 * kColumns);
  const DeltaPack delta = *OpenBytes(Bytes("delta"));
  EXPECT_THAT(RebuildFrom(delta, "old"), IsEmpty());
  EXPECT_EQ(Bytes("rebuilt"), Bytes("new/model.safetensors"));
}

TEST_F(DeltaPackTest, DoesNotDependOnTheNumberOfThreads) {
  auto one = MakeDelta(1);
  auto four = MakeDelta(4);
  ASSERT_TRUE(one.ok() && four.ok());
  EXPECT_EQ(one->sha256, four->sha256);
}

TEST_F(DeltaPackTest, SaysWhatTheOlderReleaseLacks) {
  ASSERT_TRUE(MakeDelta(1).ok());
  auto delta = OpenBytes(Bytes("delta"));
  ASSERT_TRUE(delta.ok());
  old_.erase("same");
  old_["norm"].shape = {5, 100};
  Write("wrong", old_);
  EXPECT_THAT(RebuildFrom(*delta, "wrong"), ElementsAre("norm", "same"));
}

TEST_F(DeltaPackTest, SaysWhichTensorIsDamaged) {
  ASSERT_TRUE(MakeDelta(1).ok());
  std::string bytes = Bytes("delta");
  // The method of the first block of the first tensor.
  bytes[8 + 4] = 9;
  auto delta = OpenBytes(bytes);
  ASSERT_TRUE(delta.ok());
  EXPECT_THAT(RebuildFrom(*delta, "old"), ElementsAre("big"));
}

TEST_F(DeltaPackTest, RefusesWhatIsCutOrIsNoDelta) {
  ASSERT_TRUE(MakeDelta(1).ok());
  const std::string bytes = Bytes("delta");
  for (size_t cut = 1; cut < 3000; cut += 7) {
    auto delta = OpenBytes(bytes.substr(0, bytes.size() - cut));
    EXPECT_EQ(delta.status().code(), absl::StatusCode::kDataLoss) << cut;
  }
  EXPECT_THAT(OpenBytes("").status().ToString(), HasSubstr("too few"));
  EXPECT_THAT(OpenBytes(std::string(100, 'x')).status().ToString(),
              HasSubstr("does not begin and end"));
}

TEST_F(DeltaPackTest, SurvivesDamageAnywhere) {
  old_.erase("big");
  new_.erase("big");
  Write("old", old_);
  Write("new", new_);
  ASSERT_TRUE(MakeDelta(1).ok());
  const std::string bytes = Bytes("delta");
  std::mt19937 random(3);
  for (int round = 0; round < 80; ++round) {
    std::string damaged = bytes;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    auto delta = OpenBytes(damaged);
    if (!delta.ok()) continue;
    if (delta->FindHeader("model.safetensors") == nullptr) continue;
    RebuildFrom(*delta, "old");
  }
}

TEST(ElementFormTest, IsWholeElementsForEveryDtype) {
  for (const DType dtype :
       {DType::kBool,   DType::kF4,         DType::kF6E2M3,     DType::kF6E3M2,
        DType::kU8,     DType::kI8,         DType::kF8E5M2,     DType::kF8E4M3,
        DType::kF8E8M0, DType::kF8E4M3FNUZ, DType::kF8E5M2FNUZ, DType::kI16,
        DType::kU16,    DType::kF16,        DType::kBF16,       DType::kI32,
        DType::kU32,    DType::kF32,        DType::kC64,        DType::kF64,
        DType::kI64,    DType::kU64}) {
    const ElementForm form = FormOf(dtype);
    EXPECT_TRUE(IsPlaneWidth(form.width));
    if (DTypeBits(dtype) >= 8) {
      EXPECT_EQ(DTypeBits(dtype) % (8 * form.width), 0);
    }
    EXPECT_LT(form.exponent_bits, 8 * form.width);
  }
}


// A merge of two low-rank updates into a matrix, as merge/engine does it.
class LowRankDeltaTest : public DeltaPackTest {
 protected:
  static constexpr int64_t kRows = 512;
  static constexpr int64_t kColumns = 640;

  void SetUp() override {
    DeltaPackTest::SetUp();
    old_["big"].shape = {3000, 1000};
    old_["m"] = MakeContent(DType::kBF16, kRows * kColumns, 20);
    old_["m"].shape = {kRows, kColumns};
    new_ = old_;
    steps_ = {{MakeTerm(21, 0.4f), MakeTerm(22, -0.7f)}, {MakeTerm(23, 1.0f)}};
    for (const auto& step : steps_) Merge(step, new_["m"]);
    Write("old", old_);
    Write("new", new_);
  }

  static std::vector<float> Floats(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 0.01f);
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  }

  static LowRankTerm MakeTerm(uint32_t seed, float coefficient) {
    return {.coefficient = coefficient,
            .scale = 2,
            .rank = 4,
            .left = Floats(size_t{kRows} * 4, seed),
            .right = Floats(size_t{4} * kColumns, seed + 100)};
  }

  static void Merge(const std::vector<LowRankTerm>& step, Content& content) {
    std::vector<float> before(size_t{kRows} * kColumns);
    ToFloats(content.dtype, content.bytes, absl::MakeSpan(before));
    std::vector<float> sums(before.size(), 0.0f);
    for (const LowRankTerm& term : step) {
      for (size_t i = 0; i < sums.size(); ++i) {
        volatile float product = 0;
        for (size_t k = 0; k < 4; ++k) {
          product = std::fmaf(term.left[i / kColumns * 4 + k],
                              term.right[k * kColumns + i % kColumns], product);
        }
        volatile float scaled = product * term.scale;
        volatile float part = term.coefficient * scaled;
        sums[i] += part;
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += before[i];
    FromFloats(content.dtype, sums, absl::MakeSpan(content.bytes));
  }

  absl::StatusOr<WrittenDelta> MakeDeltaKnowing(const LowRankSteps& steps,
                                                int threads) {
    const Checkpoint from = Open("old");
    const Checkpoint to = Open("new");
    return WriteDeltaPack(from, to, Path("delta"),
                          {.from_digest = "sha256:old",
                           .to_digest = "sha256:new",
                           .threads = threads,
                           .steps =
                               [&](const CheckpointTensor& tensor) {
                                 return tensor.name == "m" ? steps
                                                           : LowRankSteps();
                               },
                           .progress = nullptr});
  }

  // Rebuilt tensors are new_'s, but for those that are missing.
  std::vector<std::string> Rebuild(std::string bytes) {
    auto delta = OpenBytes(std::move(bytes));
    EXPECT_TRUE(delta.ok()) << delta.status();
    return RebuildFrom(*delta, "old");
  }

  LowRankSteps steps_;
};

TEST_F(LowRankDeltaTest, FactorsStandForWhatTheirMergesDid) {
  auto without = MakeDelta(1);
  ASSERT_TRUE(without.ok()) << without.status();
  auto with = MakeDeltaKnowing(steps_, 1);
  ASSERT_TRUE(with.ok()) << with.status();
  const int64_t factors = 3 * 4 * (kRows + kColumns) * 4;
  EXPECT_LT(with->size_bytes, factors + 2000);
  EXPECT_LT(3 * with->size_bytes, without->size_bytes);
  const std::string bytes = *ReadFile(Path("delta"));
  EXPECT_THAT(Rebuild(bytes), IsEmpty());
  EXPECT_EQ(*ReadFile(Path("rebuilt")),
            *ReadFile(Path("new") + "/model.safetensors"));
  EXPECT_EQ(MakeDeltaKnowing(steps_, 5)->sha256, with->sha256);
}

TEST_F(LowRankDeltaTest, ManyPiecesShareTheFactorsOfTheirTensor) {
  const LowRankSteps steps = {{{.coefficient = 1,
                                .scale = 1,
                                .rank = 2,
                                .left = Floats(size_t{3000} * 2, 31),
                                .right = Floats(size_t{2} * 1000, 32)}}};
  ApplySteps(steps, DType::kBF16, 1000, 0, absl::MakeSpan(new_["big"].bytes));
  new_["big"].bytes[5'000'000] ^= 1;  // not by the merge
  Write("new", new_);
  const Checkpoint from = Open("old");
  const Checkpoint to = Open("new");
  std::string sha256;
  for (const int threads : {1, 4}) {
    auto written = WriteDeltaPack(
        from, to, Path("delta"),
        {.from_digest = "sha256:old",
         .to_digest = "sha256:new",
         .threads = threads,
         .steps =
             [&](const CheckpointTensor& tensor) {
               return tensor.name == "big" ? steps : LowRankSteps();
             },
         .progress = nullptr});
    ASSERT_TRUE(written.ok()) << written.status();
    if (!sha256.empty()) {
      EXPECT_EQ(written->sha256, sha256);
    }
    sha256 = written->sha256;
    EXPECT_THAT(Rebuild(*ReadFile(Path("delta"))), IsEmpty());
    EXPECT_EQ(*ReadFile(Path("rebuilt")),
              *ReadFile(Path("new") + "/model.safetensors"));
  }
}

TEST_F(LowRankDeltaTest, FactorsThatDoNotPayAreLeftOut) {
  const int64_t without = MakeDelta(1)->size_bytes;
  LowRankTerm other = MakeTerm(77, 0.5f);
  LowRankTerm misfit = other;
  misfit.left.pop_back();
  LowRankTerm large = other;
  large.rank = 300;
  large.left = Floats(size_t{kRows} * 300, 1);
  large.right = Floats(size_t{kColumns} * 300, 2);
  for (const LowRankTerm& term : {other, misfit, large}) {
    auto written = MakeDeltaKnowing({{term}}, 2);
    ASSERT_TRUE(written.ok()) << written.status();
    EXPECT_EQ(written->size_bytes, without);
  }
  EXPECT_TRUE(absl::IsDataLoss(
      WriteDeltaPack(Open("old"), Open("new"), Path("delta"),
                     {.from_digest = "sha256:old",
                      .to_digest = "sha256:new",
                      .threads = 2,
                      .steps =
                          [](const CheckpointTensor&) {
                            return absl::DataLossError("factors are damaged");
                          },
                      .progress = nullptr})
          .status()));
}

TEST_F(LowRankDeltaTest, DamagedFactorsCostTheirTensor) {
  ASSERT_TRUE(MakeDeltaKnowing(steps_, 2).ok());
  const std::string whole = *ReadFile(Path("delta"));
  std::string cut = whole;
  // The length of the first block of factors, which stand first.
  cut[kDeltaMagic.size() + 2] ^= 0x7f;
  EXPECT_THAT(Rebuild(cut), ElementsAre("m"));
  std::mt19937 random(9);
  for (int trial = 0; trial < 30; ++trial) {
    std::string bytes = whole;
    for (int flips = 0; flips < 3; ++flips) {
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    }
    auto delta = OpenBytes(std::move(bytes));
    if (delta.ok()) RebuildFrom(*delta, "old");
  }
}

TEST_F(LowRankDeltaTest, DescriptionsThatFitNoTensorAreRefused) {
  const std::vector<int64_t> shape = {kRows, kColumns};
  v1::DeltaTensor good;
  PlaneEncoder encoder;
  const std::string coded = EncodeSteps(steps_, encoder, good);
  auto bytes = CodedStepBytes(good, DType::kBF16, shape);
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, static_cast<int64_t>(coded.size()));
  ASSERT_TRUE(DecodeSteps(good, shape, coded).ok());
  for (size_t cut = 0; cut < coded.size(); cut += 997) {
    EXPECT_TRUE(absl::IsDataLoss(
        DecodeSteps(good, shape, coded.substr(0, cut)).status()));
  }
  EXPECT_FALSE(CodedStepBytes(good, DType::kI32, shape).ok());
  EXPECT_FALSE(CodedStepBytes(good, DType::kBF16, {kRows * kColumns}).ok());
  EXPECT_FALSE(CodedStepBytes(good, DType::kBF16, {4, 4}).ok());
  for (const int64_t rank : {int64_t{0}, int64_t{-1}, int64_t{72}, INT64_MAX}) {
    v1::DeltaTensor bad = good;
    bad.mutable_steps(1)->mutable_terms(0)->set_rank(rank);
    EXPECT_TRUE(
        absl::IsDataLoss(CodedStepBytes(bad, DType::kBF16, shape).status()))
        << rank;
  }
  for (const int64_t length : {int64_t{-1}, INT64_MAX}) {
    v1::DeltaTensor bad = good;
    bad.mutable_steps(0)->mutable_terms(1)->set_coded_bytes(length);
    EXPECT_FALSE(CodedStepBytes(bad, DType::kBF16, shape).ok()) << length;
  }
  good.add_steps();
  EXPECT_FALSE(CodedStepBytes(good, DType::kBF16, shape).ok());
}

}  // namespace
}  // namespace cairn
