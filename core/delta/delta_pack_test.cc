#include "core/delta/delta_pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/delta/delta_pack_writer.h"

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

}  // namespace
}  // namespace cairn
