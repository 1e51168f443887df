#include "core/codec/delta_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "core/codec/element_order.h"
#include "core/tensor/dtype.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

constexpr ElementForm kBF16 = {.width = 2, .exponent_bits = 8};
constexpr ElementForm kF16 = {.width = 2, .exponent_bits = 5};
constexpr ElementForm kF32 = {.width = 4, .exponent_bits = 8};
constexpr ElementForm kF64 = {.width = 8, .exponent_bits = 11};

std::string Encoded(const std::string& base, const std::string& tuned,
                    ElementForm form) {
  DeltaEncoder encoder;
  std::string coded = "kept";
  encoder.Encode(base, tuned, form, coded);
  EXPECT_EQ(coded.substr(0, 4), "kept");
  EXPECT_LE(coded.size() - 4, DeltaCodedBytesMax(base.size()));
  return coded.substr(4);
}

absl::StatusOr<std::string> Decoded(const std::string& coded,
                                    const std::string& base, ElementForm form) {
  DeltaDecoder decoder;
  std::string tuned(base.size(), '\7');
  absl::Status status =
      decoder.Decode(coded, base, form, absl::MakeSpan(tuned));
  if (!status.ok()) return status;
  return tuned;
}

void ExpectRoundTrip(const std::string& base, const std::string& tuned,
                     ElementForm form) {
  auto back = Decoded(Encoded(base, tuned, form), base, form);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, tuned);
}

std::string RandomBlock(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::string block(bytes, '\0');
  for (char& c : block) c = static_cast<char>(random());
  return block;
}

struct Pair {
  std::string base;
  std::string tuned;
};

// Weights and what they become when a part of `density` of them moves by
// `change` of their spread.
Pair MakeWeights(DType dtype, size_t count, float change, double density) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  std::uniform_real_distribution<double> uniform;
  std::vector<float> values(count);
  Pair pair;
  const size_t bytes = count * static_cast<size_t>(DTypeBits(dtype) / 8);
  pair.base.resize(bytes);
  pair.tuned.resize(bytes);
  for (float& value : values) value = normal(random);
  FromFloats(dtype, values, absl::MakeSpan(pair.base));
  ToFloats(dtype, pair.base, absl::MakeSpan(values));
  for (float& value : values) {
    if (uniform(random) < density) value += change * normal(random);
  }
  FromFloats(dtype, values, absl::MakeSpan(pair.tuned));
  return pair;
}

// Entropy in bytes of the distances given the base's exponent.
double BoundBytes(const Pair& pair, size_t width) {
  std::map<uint32_t, std::map<uint32_t, double>> counts;
  for (size_t i = 0; i < pair.base.size(); i += width) {
    uint16_t before, after;
    std::memcpy(&before, &pair.base[i], 2);
    std::memcpy(&after, &pair.tuned[i], 2);
    counts[(before >> 7) & 255]
          [static_cast<uint16_t>(PlaceOf(after) - PlaceOf(before))] += 1;
  }
  double bits = 0;
  for (const auto& [exponent, distances] : counts) {
    double total = 0;
    for (const auto& [distance, count] : distances) total += count;
    for (const auto& [distance, count] : distances) {
      bits += count * std::log2(total / count);
    }
  }
  return bits / 8;
}

TEST(ElementOrderTest, OrdersNumbersAndKeepsEveryPattern) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto pattern = static_cast<uint16_t>(i);
    EXPECT_EQ(PatternAt(PlaceOf(pattern)), pattern);
    EXPECT_EQ(Unfold(Fold(pattern)), pattern);
    const Token token = TokenOf(pattern);
    EXPECT_LT(token.token, kTokenLimit<uint16_t>);
    const TokenRange& range = kTokenRanges[token.token];
    EXPECT_EQ(range.extra_bits, token.extra_bits);
    EXPECT_EQ(range.first | (pattern & ((uint64_t{1} << token.extra_bits) - 1)),
              pattern);
  }
  const auto place = [](float value) {
    return PlaceOf(std::bit_cast<uint32_t>(value));
  };
  EXPECT_LT(place(-2.0f), place(-1.0f));
  EXPECT_EQ(place(-0.0f) + 1, place(0.0f));
  EXPECT_LT(place(1e-40f), place(1e-30f));
  EXPECT_EQ(TokenOf(~uint64_t{0}).token, 255);
}

TEST(DeltaCodecTest, GivesAnyBlockBackFromAnyOther) {
  for (const ElementForm form :
       {kBF16, kF16, kF32, kF64, ElementForm{1, 0}, ElementForm{1, 4},
        ElementForm{2, 0}, ElementForm{4, 0}, ElementForm{8, 0}}) {
    const auto width = static_cast<size_t>(form.width);
    for (const size_t count : {0, 1, 3, 4, 63, 64, 65, 128, 1000, 20'001}) {
      const std::string base = RandomBlock(count * width, 1);
      ExpectRoundTrip(base, base, form);
      ExpectRoundTrip(base, RandomBlock(count * width, 2), form);
      ExpectRoundTrip(std::string(base.size(), '\0'), base, form);
      std::string touched = base;
      for (size_t i = 0; i < touched.size(); i += 400) touched[i] ^= 5;
      ExpectRoundTrip(base, touched, form);
    }
  }
}

TEST(DeltaCodecTest, KeepsNansInfinitiesAndSignedZeros) {
  const std::vector<uint32_t> patterns = {
      0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000,
      0x7f800001, 0xffc12345, 0x00000001, 0x807fffff, 0x3f800000};
  std::string base, tuned;
  for (const uint32_t before : patterns) {
    for (const uint32_t after : patterns) {
      base.append(reinterpret_cast<const char*>(&before), 4);
      tuned.append(reinterpret_cast<const char*>(&after), 4);
    }
  }
  for (const ElementForm form : {kBF16, kF16, kF32, kF64}) {
    ExpectRoundTrip(base, tuned, form);
    ExpectRoundTrip(tuned, base, form);
  }
}

TEST(DeltaCodecTest, TakesAtMostATenthMoreThanTheEntropy) {
  for (const float change : {0.001f, 0.002f, 0.005f, 0.01f}) {
    const Pair pair = MakeWeights(DType::kBF16, 1 << 18, change, 1);
    const std::string coded = Encoded(pair.base, pair.tuned, kBF16);
    EXPECT_LT(static_cast<double>(coded.size()), 1.1 * BoundBytes(pair, 2))
        << change;
    auto back = Decoded(coded, pair.base, kBF16);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, pair.tuned);
  }
}

TEST(DeltaCodecTest, TakesAtMostAHundredthForASparseChange) {
  const Pair pair = MakeWeights(DType::kBF16, 1 << 18, 1, 0.005);
  const std::string coded = Encoded(pair.base, pair.tuned, kBF16);
  EXPECT_LT(coded.size(), pair.base.size() / 100);
  auto back = Decoded(coded, pair.base, kBF16);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, pair.tuned);
}

TEST(DeltaCodecTest, AnUnchangedBlockTakesAByte) {
  const std::string block = RandomBlock(4096, 8);
  EXPECT_EQ(Encoded(block, block, kF32), std::string(1, '\0'));
}

TEST(DeltaCodecTest, TakesPlanesWhereTheBaseSaysNothing) {
  Pair pair = MakeWeights(DType::kBF16, 1 << 16, 1, 1);
  pair.base = RandomBlock(pair.tuned.size(), 3);
  EXPECT_LT(Encoded(pair.base, pair.tuned, kBF16).size(),
            pair.tuned.size() * 7 / 10);
}

TEST(DeltaCodecTest, TakesXorWhereBitsFlip) {
  const std::string base = RandomBlock(1 << 16, 4);
  std::string tuned = base;
  for (char& c : tuned) c ^= 0x48;
  EXPECT_LT(Encoded(base, tuned, {1, 0}).size(), size_t{100});
}

TEST(DeltaCodecTest, RefusesWhatIsCutOrGoesOn) {
  for (const double density : {1.0, 0.01}) {
    const Pair pair = MakeWeights(DType::kBF16, 3000, 0.05f, density);
    const std::string coded = Encoded(pair.base, pair.tuned, kBF16);
    ASSERT_EQ(coded[0], 1);
    for (size_t size = 0; size < coded.size(); ++size) {
      EXPECT_EQ(
          Decoded(coded.substr(0, size), pair.base, kBF16).status().code(),
          absl::StatusCode::kDataLoss)
          << size;
    }
    EXPECT_FALSE(Decoded(coded + "x", pair.base, kBF16).ok());
    EXPECT_FALSE(
        Decoded(coded, pair.base + std::string(2048, 'a'), kBF16).ok());
  }
}

TEST(DeltaCodecTest, SaysWhatIsWrong) {
  const std::string base(8, 'a');
  EXPECT_THAT(Decoded("", base, kBF16).status().ToString(),
              HasSubstr("is empty"));
  EXPECT_THAT(Decoded("\x09", base, kBF16).status().ToString(),
              HasSubstr("method 9 is none"));
  EXPECT_THAT(Decoded(std::string("\0a", 2), base, kBF16).status().ToString(),
              HasSubstr("goes on after"));
  EXPECT_THAT(Decoded("\x01\x01\x01\x01", base, kBF16).status().ToString(),
              HasSubstr("does not fit its neighbours"));
}

TEST(DeltaCodecTest, SurvivesDamage) {
  std::mt19937 random(9);
  for (const double density : {1.0, 0.01}) {
    const Pair pair = MakeWeights(DType::kF32, 2000, 0.01f, density);
    const std::string coded = Encoded(pair.base, pair.tuned, kF32);
    for (int round = 0; round < 2000; ++round) {
      std::string damaged = coded;
      const size_t at = round < 800 ? static_cast<size_t>(round) / 2
                                    : random() % damaged.size();
      damaged[at % damaged.size()] = static_cast<char>(random());
      (void)Decoded(damaged, pair.base, kF32);
    }
  }
}

}  // namespace
}  // namespace cairn
