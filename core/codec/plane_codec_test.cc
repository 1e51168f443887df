#include "core/codec/plane_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "core/tensor/dtype.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

std::string Encoded(const std::string& block, int width) {
  PlaneEncoder encoder;
  std::string coded = "kept";
  encoder.Encode(block, width, coded);
  EXPECT_EQ(coded.substr(0, 4), "kept");
  return coded.substr(4);
}

absl::StatusOr<std::string> Decoded(const std::string& coded, size_t size) {
  PlaneDecoder decoder;
  std::string block(size, '\7');
  absl::Status status = decoder.Decode(coded, absl::MakeSpan(block));
  if (!status.ok()) return status;
  return block;
}

std::string RandomBlock(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::string block(bytes, '\0');
  for (char& c : block) c = static_cast<char>(random());
  return block;
}

// Normally distributed numbers, as weights are.
std::string Weights(DType dtype, size_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  std::string bytes(count * static_cast<size_t>(DTypeBits(dtype) / 8), '\0');
  FromFloats(dtype, values, absl::MakeSpan(bytes));
  return bytes;
}

TEST(PlaneCodecTest, GivesEveryBlockBack) {
  for (const int width : {1, 2, 4, 8}) {
    for (const size_t size : {0, 1, 2, 3, 7, 8, 9, 63, 4096, 70'001}) {
      for (const std::string& block :
           {RandomBlock(size, 3), std::string(size, '\0'),
            Weights(DType::kF32, size / 4 + 1).substr(0, size)}) {
        const std::string coded = Encoded(block, width);
        EXPECT_LE(coded.size(), PlaneCodedBytesMax(size));
        auto back = Decoded(coded, size);
        ASSERT_TRUE(back.ok()) << width << " " << size << back.status();
        EXPECT_EQ(*back, block);
      }
    }
  }
}

TEST(PlaneCodecTest, MakesWeightsAboutAsShortAsTheirExponentsAllow) {
  const std::string bf16 = Weights(DType::kBF16, 1 << 17);
  EXPECT_LT(static_cast<double>(Encoded(bf16, 2).size()),
            0.68 * static_cast<double>(bf16.size()));
  const std::string f32 = Weights(DType::kF32, 1 << 16);
  EXPECT_LT(static_cast<double>(Encoded(f32, 4).size()),
            0.85 * static_cast<double>(f32.size()));
}

TEST(PlaneCodecTest, OneCoderServesManyBlocks) {
  PlaneEncoder encoder;
  PlaneDecoder decoder;
  for (const size_t size : {100'000, 3, 50'000, 0, 100'001}) {
    const std::string block = RandomBlock(size, 5);
    std::string coded;
    encoder.Encode(block, size % 2 == 0 ? 2 : 8, coded);
    std::string back(size, '\0');
    ASSERT_TRUE(decoder.Decode(coded, absl::MakeSpan(back)).ok());
    EXPECT_EQ(back, block);
  }
}

TEST(PlaneCodecTest, RefusesWhatIsCutOrGoesOn) {
  const std::string block = Weights(DType::kBF16, 3000);
  const std::string coded = Encoded(block, 2);
  for (size_t size = 0; size < coded.size(); ++size) {
    EXPECT_EQ(Decoded(coded.substr(0, size), block.size()).status().code(),
              absl::StatusCode::kDataLoss)
        << size;
  }
  EXPECT_THAT(Decoded(coded + "x", block.size()).status().ToString(),
              HasSubstr("1 bytes after its planes; 0 are right"));
  EXPECT_FALSE(Decoded(coded, block.size() + 2).ok());
  EXPECT_FALSE(Decoded(coded, block.size() - 2).ok());
}

TEST(PlaneCodecTest, SaysWhatIsWrong) {
  EXPECT_THAT(Decoded("", 4).status().ToString(), HasSubstr("is empty"));
  EXPECT_THAT(Decoded(std::string(40, '\3'), 4).status().ToString(),
              HasSubstr("elements of 3 bytes; 1, 2, 4 or 8"));
  std::string coded = Encoded("abcd", 1);
  coded[1] = 9;
  EXPECT_THAT(Decoded(coded, 4).status().ToString(),
              HasSubstr("plane 0 has method 9 and 4 bytes for 4"));
  coded[1] = 1;
  EXPECT_THAT(Decoded(coded, 4).status().ToString(), HasSubstr("zstd says"));
}

TEST(PlaneCodecTest, SurvivesDamage) {
  const std::string block = Weights(DType::kF32, 2000);
  const std::string coded = Encoded(block, 4);
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = coded;
    const size_t at = round < 400 ? static_cast<size_t>(round) % 40
                                  : random() % damaged.size();
    damaged[at] = static_cast<char>(random());
    // What is not found is the digest's to find; nothing may crash.
    (void)Decoded(damaged, block.size());
  }
}

TEST(PlaneProbeTest, FindsTheWidth) {
  PlaneEncoder encoder;
  EXPECT_EQ(ProbePlanes(Weights(DType::kBF16, 32768), encoder).width, 2);
  EXPECT_EQ(ProbePlanes(Weights(DType::kF32, 16384), encoder).width, 4);
  std::vector<double> doubles(8192);
  std::mt19937 random(4);
  std::normal_distribution<double> normal(0, 1);
  for (double& value : doubles) value = normal(random);
  const PlaneProbe f64 = ProbePlanes(
      {reinterpret_cast<const char*>(doubles.data()), 8 * doubles.size()},
      encoder);
  EXPECT_EQ(f64.width, 8);
  EXPECT_LT(f64.ratio, 0.96);
}

TEST(PlaneProbeTest, SaysThatRandomBytesDoNotPay) {
  PlaneEncoder encoder;
  const PlaneProbe probe = ProbePlanes(RandomBlock(65536, 6), encoder);
  EXPECT_EQ(probe.width, 1);
  EXPECT_GE(probe.ratio, 1.0);
  EXPECT_EQ(ProbePlanes({}, encoder).ratio, 1.0);
}

}  // namespace
}  // namespace cairn
