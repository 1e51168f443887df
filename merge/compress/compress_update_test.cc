#include "merge/compress/compress_update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <random>

#include "core/base/file.h"
#include "core/base/status_util.h"
#include "core/codec/position_codec.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/dtype.h"
#include "core/update/manifest.h"
#include "core/update/position_mask.h"
#include "core/update/update.h"
#include "merge/compress/change_report.h"
#include "merge/compress/lora_fit.h"

namespace cairn {
namespace {

const std::string kBase = "sha256:" + std::string(64, 'b');

using Values = std::map<std::string, std::vector<float>>;

// A model of two matrices, a short matrix and a norm, and one tuned from it.
class CompressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        ::testing::TempDir() + "/compress_" +
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    Add("a.weight", DType::kF32, {200, 300});
    Add("b.weight", DType::kF32, {64, 512});
    Add("c.weight", DType::kF32, {4, 8});
    Add("norm.weight", DType::kF32, {300});
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Add(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    specs_.push_back({.name = name, .dtype = dtype, .shape = std::move(shape)});
    for (int64_t i = 0; i < specs_.back().elements(); ++i) {
      base_[name].push_back(Normal(0.1F));
      tuned_[name].push_back(base_[name].back() + Normal(0.001F));
    }
  }
  float Normal(float deviation) {
    return std::normal_distribution<float>(0.0F, deviation)(random_);
  }

  Checkpoint Make(const Values& values) {
    auto layout = LayOutSafetensors(specs_, {});
    std::string bytes = layout->header;
    for (const TensorEntry& entry : layout->tensors) {
      const std::vector<float>& v = values.at(entry.name);
      bytes.append(reinterpret_cast<const char*>(v.data()), 4 * v.size());
    }
    auto checkpoint =
        Checkpoint::Open({{"model.safetensors", MakeMemorySource(bytes)}});
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return *std::move(checkpoint);
  }

  // Compresses and measures, by tensor.
  std::map<std::string, TensorFidelity> Compress(CompressOptions options) {
    const Checkpoint base = Make(base_), tuned = Make(tuned_);
    auto source = MakeCheckpointChange(base, tuned);
    EXPECT_TRUE(source.ok()) << source.status();
    options.base_digest = kBase;
    for (const TensorSpec& spec : specs_) {
      options.base_elements += spec.elements();
    }
    const std::string path = directory_ + "/" + kUpdateFile;
    const absl::Status status = CompressChange(**source, path, options);
    EXPECT_TRUE(status.ok()) << status;
    auto update = OpenUpdateDirectory(directory_);
    EXPECT_TRUE(update.ok()) << update.status();
    EXPECT_TRUE((*update)->CheckFinite().ok());
    size_bytes_ = std::filesystem::file_size(path);
    auto measured = MeasureFidelity(**source, **update, base, 2);
    EXPECT_TRUE(measured.ok()) << measured.status();
    std::map<std::string, TensorFidelity> out;
    double last = std::numeric_limits<double>::infinity();
    for (const TensorFidelity& t : *measured) {
      EXPECT_LE(t.relative_error(), last);  // worst first
      last = t.relative_error();
      out[t.tensor] = t;
    }
    return out;
  }

  std::mt19937 random_{11};
  std::string directory_;
  uint64_t size_bytes_ = 0;
  std::vector<TensorSpec> specs_;
  Values base_, tuned_;
};

TEST_F(CompressTest, SparseKeepsTheLargestOfTheWholeModel) {
  for (float& value : tuned_["b.weight"]) value += Normal(0.01F);
  auto by_name = Compress({.kind = Compression::kSparse, .density = 0.1});
  int64_t kept = 0, elements = 0;
  for (const auto& [name, t] : by_name) {
    kept += t.kept;
    elements += t.elements;
  }
  EXPECT_EQ(kept, std::llround(0.1 * static_cast<double>(elements)));
  EXPECT_GT(by_name["b.weight"].kept, 20 * by_name["a.weight"].kept);
  EXPECT_LT(by_name["b.weight"].relative_error(), 0.6);
  by_name = Compress({.kind = Compression::kSparse});
  EXPECT_EQ(by_name["a.weight"].error, 0);  // all of it in F32
}

TEST_F(CompressTest, ListedIntegersAreNear) {
  auto by_name =
      Compress({.kind = Compression::kSparse, .values = ValueForm::kInt8});
  for (const auto& [name, t] : by_name) {
    EXPECT_LT(t.relative_error(), 0.01) << name;
    EXPECT_GT(t.relative_error(), 0.001) << name;
  }
}

// Normally distributed tau: known errors, by integrals over the density.
TEST_F(CompressTest, TernaryIsAsNearAsItCanBeForItsBits) {
  for (const double density : {0.05, 0.2, 0.5}) {
    auto by_name =
        Compress({.kind = Compression::kTernary, .density = density});
    const TensorFidelity& a = by_name["a.weight"];
    EXPECT_EQ(a.kept, std::llround(density * 60'000));
    // cosine^2 = (E|x| over kept)^2 / P(kept), for a normal x.
    const double limit = density == 0.05  ? 1.95996
                         : density == 0.2 ? 1.28155
                                          : 0.67449;
    const double mean = std::sqrt(2 / M_PI) * std::exp(-limit * limit / 2);
    EXPECT_NEAR(a.cosine(), mean / std::sqrt(density), 0.01) << density;
    EXPECT_NEAR(a.relative_error(), std::sqrt(1 - a.cosine() * a.cosine()),
                1e-4);
    EXPECT_EQ(by_name["norm.weight"].error, 0);
    EXPECT_EQ(by_name["c.weight"].error, 0);
    // H(d) + d bits an element of both matrices, within 3 %, and the rest.
    const double bits =
        PositionEntropyBits(std::llround(density * 60'000), 60'000) +
        PositionEntropyBits(std::llround(density * 32'768), 32'768) +
        density * 92'768;
    EXPECT_LT(static_cast<double>(size_bytes_),
              1.03 * bits / 8 + 4 * 332 + 600);
  }
}

TEST_F(CompressTest, BitTakesABitAnElement) {
  auto by_name = Compress({.kind = Compression::kBit});
  // cosine = E|x| / sqrt(E x^2)
  EXPECT_NEAR(by_name["a.weight"].cosine(), std::sqrt(2 / M_PI), 0.005);
  EXPECT_LT(size_bytes_, 92'768 / 8 + 4 * 332 + 600);
  // Rows of different sizes want scales of their own.
  for (size_t i = 0; i < 30'000; ++i) {
    float& tuned = tuned_["a.weight"][i];
    tuned = base_["a.weight"][i] + 10 * (tuned - base_["a.weight"][i]);
  }
  const double tensor =
      Compress({.kind = Compression::kBit})["a.weight"].relative_error();
  const double row = Compress({.kind = Compression::kBit,
                               .sign_scale = SignScale::kRow})["a.weight"]
                         .relative_error();
  EXPECT_NEAR(row, std::sqrt(1 - 2 / M_PI), 0.01);
  EXPECT_GT(tensor, row + 0.1);
}

TEST_F(CompressTest, IntegersOfGroups) {
  const double int8 =
      Compress({.kind = Compression::kInt8})["a.weight"].relative_error();
  EXPECT_LT(int8, 0.01);
  EXPECT_LT(size_bytes_, 92'768 * 1.04 + 4 * 332 + 600);
  const double int4 =
      Compress({.kind = Compression::kInt4, .group = 32})["a.weight"]
          .relative_error();
  EXPECT_LT(int4, 0.11);
  EXPECT_GT(int4, int8);
  EXPECT_LT(size_bytes_, 92'768 * 0.63 + 4 * 332 + 600);
}

TEST_F(CompressTest, LowRankFindsProductsAndListsTheRest) {
  // b's change is of rank 3, and five elements stand out.
  std::vector<float> left(64 * 3), right(3 * 512);
  for (float& value : left) value = Normal(0.05F);
  for (float& value : right) value = Normal(0.05F);
  for (size_t r = 0; r < 64; ++r) {
    for (size_t c = 0; c < 512; ++c) {
      float& value = tuned_["b.weight"][r * 512 + c];
      value = base_["b.weight"][r * 512 + c];
      for (size_t k = 0; k < 3; ++k)
        value += left[r * 3 + k] * right[k * 512 + c];
    }
  }
  auto by_name =
      Compress({.kind = Compression::kLowRank, .density = 0, .rank = 3});
  EXPECT_LT(by_name["b.weight"].relative_error(), 1e-4);
  EXPECT_GT(by_name["a.weight"].relative_error(), 0.9);  // noise is not
  EXPECT_EQ(by_name["norm.weight"].error, 0);
  for (size_t i = 0; i < 5; ++i) tuned_["b.weight"][i * 997] += 0.05F;
  const double without =
      Compress(
          {.kind = Compression::kLowRank, .density = 0, .rank = 3})["b.weight"]
          .relative_error();
  const double with = Compress({.kind = Compression::kLowRank,
                                .density = 0.005,
                                .rank = 3})["b.weight"]
                          .relative_error();
  EXPECT_GT(without, 0.1);
  EXPECT_LT(with, without / 2);
}

TEST_F(CompressTest, AMaskServesLaterUpdates) {
  const std::string mask_path = directory_ + "/" + kMaskFile;
  CompressOptions options = {.density = 0.1, .values = ValueForm::kF16};
  for (const TensorSpec& spec : specs_) {
    options.base_elements += spec.elements();
  }
  {
    const Checkpoint base = Make(base_), tuned = Make(tuned_);
    auto source = MakeCheckpointChange(base, tuned);
    ASSERT_TRUE(WriteMask(**source, mask_path, options).ok());
  }
  SharedSource file = *OpenFileSource(mask_path);
  options.mask_digest = "sha256:" + *FileSha256(*file);
  auto mask = PositionMask::Open(file);
  ASSERT_TRUE(mask.ok()) << mask.status();
  options.mask = &*mask;
  options.base_elements = 0;
  const auto first = Compress(options);
  int64_t kept = 0;
  for (const auto& [name, t] : first) kept += t.kept;
  EXPECT_EQ(kept, std::llround(0.1 * 93'100));
  EXPECT_LT(size_bytes_, 2 * kept + 800);
  // Another change: the same elements.
  for (float& value : tuned_["a.weight"]) value += Normal(0.001F);
  const auto second = Compress(options);
  EXPECT_EQ(second.at("a.weight").kept, first.at("a.weight").kept);
  EXPECT_GT(second.at("a.weight").relative_error(),
            first.at("a.weight").relative_error());
  // The mask is part of the update, and no other will do.
  auto files = *OpenDirectorySources(directory_);
  const SharedSource right = files.at(kMaskFile);
  files.erase(kMaskFile);
  EXPECT_THAT(std::string(OpenUpdate(files).status().message()),
              ::testing::HasSubstr("is not beside it"));
  std::string other = *ReadAll(*right, 1 << 24);
  other.back() ^= 1;
  files[kMaskFile] = MakeMemorySource(other);
  EXPECT_THAT(std::string(OpenUpdate(files).status().message()),
              ::testing::HasSubstr("which cairn-update.safetensors names"));
}

TEST_F(CompressTest, BytesDoNotDependOnThreads) {
  // Few values, so that many changes are as large as the least that is kept.
  for (auto& [name, values] : tuned_) {
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = base_.at(name)[i] + 0x1p-10F * static_cast<float>(i * 7 % 5);
    }
  }
  const std::vector<CompressOptions> all = {
      {.kind = Compression::kSparse, .density = 0.3},
      {.kind = Compression::kSparse, .values = ValueForm::kInt8},
      {.kind = Compression::kTernary, .density = 0.3},
      {.kind = Compression::kBit, .sign_scale = SignScale::kRow},
      {.kind = Compression::kInt8},
      {.kind = Compression::kInt4},
      {.kind = Compression::kLowRank, .density = 0.1, .rank = 3}};
  for (size_t i = 0; i < all.size(); ++i) {
    std::vector<std::string> files;
    for (const int threads : {1, 2, 7}) {
      CompressOptions options = all[i];
      options.threads = threads;
      Compress(options);
      files.push_back(*ReadFile(directory_ + "/" + kUpdateFile));
    }
    EXPECT_EQ(files[0], files[1]) << i;
    EXPECT_EQ(files[0], files[2]) << i;
  }
  const Checkpoint base = Make(base_), tuned = Make(tuned_);
  const auto source = MakeCheckpointChange(base, tuned);
  std::vector<std::string> loras;
  for (const int threads : {1, 3}) {
    ASSERT_TRUE(
        WriteFittedLora(**source, directory_, {.rank = 4, .threads = threads})
            .ok());
    loras.push_back(*ReadFile(directory_ + "/" + kAdapterWeightsFile));
  }
  EXPECT_EQ(loras[0], loras[1]);
}

TEST_F(CompressTest, ALoraIsFittedForPeftToRead) {
  const Checkpoint base = Make(base_), tuned = Make(tuned_);
  auto source = MakeCheckpointChange(base, tuned);
  const auto error_of = [&](int64_t rank, const std::string& config) {
    EXPECT_TRUE(WriteFittedLora(**source, directory_,
                                {.rank = rank, .base_config_json = config})
                    .ok());
    auto update = OpenUpdateDirectory(directory_);
    EXPECT_TRUE(update.ok()) << update.status();
    EXPECT_EQ((*update)->encoding(), v1::Encoding::LORA);
    EXPECT_EQ((*update)->touched().size(), 3U);  // no norm
    auto measured = MeasureFidelity(**source, **update, base, 1);
    EXPECT_TRUE(measured.ok()) << measured.status();
    for (const TensorFidelity& t : *measured) {
      if (t.tensor == "a.weight") return t.relative_error();
    }
    return 1.0;
  };
  const double little = error_of(8, "");
  EXPECT_LT(little, 0.97);
  EXPECT_LT(error_of(200, ""), 1e-5);
  // As GPT-2 stores them the same product is told the other way round.
  EXPECT_NEAR(error_of(8, R"({"model_type": "gpt2"})"), little, 1e-6);
}

TEST_F(CompressTest, SameChangeSameBytes) {
  for (const Compression kind : {Compression::kSparse, Compression::kTernary,
                                 Compression::kInt4, Compression::kLowRank}) {
    std::string bytes[2];
    for (std::string& out : bytes) {
      Compress({.kind = kind, .density = 0.1});
      auto file = OpenFileSource(directory_ + "/" + kUpdateFile);
      out = *ReadAll(**file, 1 << 24);
    }
    EXPECT_TRUE(bytes[0] == bytes[1]);
  }
}

TEST_F(CompressTest, RefusesWhatHoldsNoNumberOrNoChange) {
  const std::string path = directory_ + "/" + kUpdateFile;
  tuned_["a.weight"][77] = std::nanf("");
  const Checkpoint base = Make(base_), broken = Make(tuned_);
  auto source = MakeCheckpointChange(base, broken);
  for (const Compression kind :
       {Compression::kSparse, Compression::kTernary, Compression::kBit,
        Compression::kInt8, Compression::kInt4, Compression::kLowRank}) {
    const absl::Status status =
        CompressChange(**source, path, {.base_digest = kBase, .kind = kind});
    EXPECT_EQ(GetReason(status)->code, "NON_FINITE") << status;
    EXPECT_EQ(GetReason(status)->details["tensor"], "a.weight");
  }
  auto nothing = MakeCheckpointChange(base, base);
  EXPECT_EQ(CompressChange(**nothing, path, {.base_digest = kBase}).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CompressChange(**nothing, path, {.density = 0}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace cairn
