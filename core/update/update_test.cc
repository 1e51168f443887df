#include "core/update/update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_util.h"
#include "core/tensor/checkpoint.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/adapter_config.h"
#include "core/update/low_rank_norm.h"
#include "core/update/manifest.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string GoldenPath(const std::string& name) {
  const char* root = std::getenv("CAIRN_SOURCE_DIR");
  return std::string(root == nullptr ? "." : root) +
         "/tests/testdata/formats/" + name;
}

FileMap Files(const std::string& directory) {
  auto files = OpenDirectorySources(GoldenPath(directory));
  EXPECT_TRUE(files.ok()) << files.status();
  return *std::move(files);
}

std::string ReasonOf(const absl::Status& status) {
  auto reason = GetReason(status);
  return reason.has_value() ? reason->code : std::string(status.ToString());
}

// base + tau of a LoRA, in double, for a tensor of `rows` by `columns`.
std::vector<double> Materialise(const LoraFactors& f) {
  std::vector<double> out(static_cast<size_t>(f.in * f.out));
  for (int64_t o = 0; o < f.out; ++o) {
    for (int64_t i = 0; i < f.in; ++i) {
      double sum = 0.0;
      for (int64_t k = 0; k < f.rank; ++k) {
        sum += static_cast<double>(f.b[static_cast<size_t>(o * f.rank + k)]) *
               f.a[static_cast<size_t>(k * f.in + i)];
      }
      const int64_t at = f.transposed ? i * f.out + o : o * f.in + i;
      out[static_cast<size_t>(at)] = f.scale * sum;
    }
  }
  return out;
}

class LoraGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LoraGoldenTest, AddsUpToWhatPeftMerges) {
  FileMap files = Files(GetParam());
  auto base =
      Checkpoint::Open({{"model.safetensors", files.at("model.safetensors")}});
  ASSERT_TRUE(base.ok()) << base.status();
  auto merged =
      Checkpoint::Open({{"model.safetensors", files.at("merged.safetensors")}});
  ASSERT_TRUE(merged.ok()) << merged.status();
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ((*update)->encoding(), v1::Encoding::LORA);
  EXPECT_EQ((*update)->touched().size(), 3U);
  auto manifest = MakeTensorManifest(*base);
  EXPECT_TRUE(CheckAgainstBase(**update, *manifest, "sha256:any").ok());
  EXPECT_TRUE((*update)->CheckFinite().ok());
  for (const TouchedTensor& tensor : (*update)->touched()) {
    auto factors = (*update)->ReadFactors(tensor.name);
    ASSERT_TRUE(factors.ok()) << factors.status();
    const std::vector<double> tau = Materialise(*factors);
    std::vector<float> before(tau.size());
    std::vector<float> after(tau.size());
    ASSERT_TRUE(base->ReadFloats(tensor.name, 0, absl::MakeSpan(before)).ok());
    ASSERT_TRUE(merged->ReadFloats(tensor.name, 0, absl::MakeSpan(after)).ok());
    double square = 0.0;
    for (size_t i = 0; i < tau.size(); ++i) {
      EXPECT_NEAR(before[i] + tau[i], after[i], 1e-6) << tensor.name;
      square += tau[i] * tau[i];
    }
    EXPECT_NEAR(*(*update)->DeltaNorm(tensor.name, *MakeMemorySource("")),
                std::sqrt(square), 1e-9);
  }
}

INSTANTIATE_TEST_SUITE_P(Peft, LoraGoldenTest,
                         ::testing::Values("lora_plain", "lora_patterns"));

StreamedProduct ProductOf(const LoraFactors& f) {
  auto reader = [](const std::vector<float>& matrix) {
    return [&matrix](int64_t first, absl::Span<float> out) {
      std::copy_n(matrix.begin() + first, out.size(), out.begin());
      return absl::OkStatus();
    };
  };
  return {.rank = f.rank,
          .in = f.in,
          .out = f.out,
          .scale = f.scale,
          .read_a = reader(f.a),
          .read_b = reader(f.b)};
}

TEST(LowRankNormTest, BothWaysAgreeWithTheProduct) {
  for (int64_t rank : {1, 3, 40, 2100}) {
    LoraFactors f{
        .rank = rank, .in = 1301, .out = 7, .a = {}, .b = {}, .scale = -0.5};
    for (int64_t i = 0; i < rank * f.in; ++i) {
      f.a.push_back(static_cast<float>(std::sin(static_cast<double>(i))));
    }
    for (int64_t i = 0; i < rank * f.out; ++i) {
      f.b.push_back(static_cast<float>(std::cos(static_cast<double>(3 * i))));
    }
    double square = 0.0;
    for (double v : Materialise(f)) square += v * v;
    auto norm = LowRankNorm(ProductOf(f));
    ASSERT_TRUE(norm.ok()) << norm.status();
    EXPECT_NEAR(*norm, std::sqrt(square), 1e-9 * std::sqrt(square)) << rank;
  }
}

TEST(UpdateTest, TransposesWhereTheBaseStoresInputsFirst) {
  FileMap files = Files("lora_plain");
  auto text = ReadAll(*files.at("adapter_config.json"), 1 << 20);
  const std::string from = "\"fan_in_fan_out\": false";
  text->replace(text->find(from), from.size(), "\"fan_in_fan_out\": true");
  files["adapter_config.json"] = MakeMemorySource(*text);
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ((*update)->Find("model.up_proj.weight")->shape,
            (std::vector<int64_t>{6, 10}));
  EXPECT_TRUE((*update)->ReadFactors("model.up_proj.weight")->transposed);
}

TEST(UpdateTest, NamesWhatTheBaseLacks) {
  FileMap files = Files("lora_plain");
  auto update = OpenUpdate(files);
  ASSERT_TRUE(update.ok());
  auto base =
      Checkpoint::Open({{"model.safetensors", files.at("model.safetensors")}});
  v1::TensorManifest manifest = *MakeTensorManifest(*base);
  auto check = [&](const v1::TensorManifest& m) {
    return CheckAgainstBase(**update, m, "");
  };
  v1::TensorManifest renamed = manifest;
  renamed.mutable_tensors(2)->set_name("model.up_projx.weight");
  EXPECT_EQ(ReasonOf(check(renamed)), "UNKNOWN_TENSOR");
  EXPECT_THAT(std::string(check(renamed).message()),
              HasSubstr("nearest are \"model.up_projx.weight\""));
  v1::TensorManifest reshaped = manifest;
  reshaped.mutable_tensors(0)->set_shape(0, 99);
  EXPECT_EQ(ReasonOf(check(reshaped)), "SHAPE_MISMATCH");
  EXPECT_THAT(std::string(check(reshaped).message()),
              HasSubstr("[6, 10], the base has [99, 10]"));
  v1::TensorManifest retyped = manifest;
  retyped.mutable_tensors(1)->set_dtype("I64");
  EXPECT_EQ(ReasonOf(check(retyped)), "DTYPE_MISMATCH");
}

TEST(UpdateTest, KnowsEmbeddingsAndHeadsByName) {
  EXPECT_FALSE(TouchesEmbeddingsOrHead(**OpenUpdate(Files("lora_plain"))));
}

TEST(AdapterConfigTest, PatternsMatchAsInPeft) {
  auto config = AdapterConfig::Parse(
      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,
          "rank_pattern": {"q_proj": 2, "layers.1.*": 16},
          "alpha_pattern": {"^model\\.x\\.k": 3},
          "target_modules": ["q_proj", "x.k"]})",
      "adapter_config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->RankOf("model.layers.0.q_proj"), 2);
  EXPECT_EQ(config->RankOf("model.layers.1.q_proj"), 2) << "the first wins";
  EXPECT_EQ(config->RankOf("model.layers.1.k_proj"), 16);
  EXPECT_EQ(config->RankOf("model.layers.0.xq_proj"), 4) << "whole segments";
  EXPECT_DOUBLE_EQ(config->ScaleOf("model.x.k"), 3.0 / 2.0);
  EXPECT_DOUBLE_EQ(config->ScaleOf("q_proj"), 8.0 / std::sqrt(2.0));
  EXPECT_TRUE(config->Targets("a.q_proj"));
  EXPECT_TRUE(config->Targets("x.k"));
  EXPECT_FALSE(config->Targets("a.xq_proj"));
  EXPECT_FALSE(config->Targets("k"));
}

TEST(ManifestTest, SignsParsesAndVerifies) {
  SigningKey key = SigningKey::Generate();
  v1::ContributionManifest manifest;
  manifest.set_model("models/m");
  manifest.set_base_release("models/m/releases/v1.0.0");
  manifest.set_base_digest("sha256:" + std::string(64, 'a'));
  manifest.set_encoding(v1::Encoding::LORA);
  (*manifest.mutable_recipe()->mutable_hyperparameters())["a"] = "1";
  (*manifest.mutable_recipe()->mutable_hyperparameters())["b"] = "2";
  auto files = DescribeUpdateFiles(Files("lora_plain"));
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), 2U) << "the update's own files only";
  for (const auto& file : *files) *manifest.add_files() = file;
  SignedManifest signed_manifest = SignManifest(manifest, key);
  EXPECT_EQ(SignManifest(manifest, key).bytes, signed_manifest.bytes);
  auto parsed = ParseManifest(signed_manifest.bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->update_digest(), UpdateDigest(*files));
  EXPECT_TRUE(
      VerifyManifest(*parsed, signed_manifest.bytes, signed_manifest.signature)
          .ok());
  std::string other = signed_manifest.bytes;
  other.back() = static_cast<char>(other.back() ^ 1);
  EXPECT_EQ(ReasonOf(VerifyManifest(*parsed, other, signed_manifest.signature)),
            "SIGNATURE_INVALID");
}

}  // namespace
}  // namespace cairn
