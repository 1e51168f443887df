#include "core/codec/rans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace cairn {
namespace {

uint32_t SumOf(const RansFrequencies& frequencies) {
  uint32_t sum = 0;
  for (const uint16_t f : frequencies) sum += f;
  return sum;
}

TEST(ScaleCountsTest, SumsToTheTotalAndKeepsTheRare) {
  std::vector<uint32_t> counts(256, 1);
  counts[7] = 4'000'000'000U;
  const RansFrequencies skewed = ScaleCounts(counts);
  EXPECT_EQ(SumOf(skewed), kRansTotal);
  EXPECT_EQ(*std::min_element(skewed.begin(), skewed.end()), 1);
  EXPECT_EQ(skewed[7], kRansTotal - 255);

  EXPECT_EQ(ScaleCounts({0, 5, 0})[1], kRansTotal);
  const RansFrequencies even = ScaleCounts({1, 1, 1});
  EXPECT_EQ(SumOf(even), kRansTotal);
  EXPECT_EQ(even[3], 0);
}

struct Sample {
  std::vector<uint8_t> tokens;
  std::vector<uint8_t> contexts;
  std::vector<RansFrequencies> tables;
  std::array<uint8_t, 256> class_of = {};
};

// Three classes: one certain token, a skewed pair, all tokens alike.
Sample MakeSample(size_t count) {
  Sample sample;
  std::mt19937 random(2);
  std::vector<std::vector<uint32_t>> counts(3, std::vector<uint32_t>(256));
  counts[0][9] = counts[1][0] = counts[2][255] = 1;
  for (size_t i = 0; i < count; ++i) {
    const auto c = static_cast<uint8_t>(random() % 3);
    const auto r = static_cast<uint32_t>(random() % 256);
    const auto token =
        static_cast<uint8_t>(c == 0 ? 9 : (c == 1 ? (r < 3 ? 1 : 0) : r));
    ++counts[c][token];
    sample.contexts.push_back(static_cast<uint8_t>(100 + c));
    sample.tokens.push_back(token);
  }
  for (uint8_t c = 0; c < 3; ++c) {
    sample.tables.push_back(ScaleCounts(counts[c]));
    sample.class_of[100 + size_t{c}] = c;
  }
  return sample;
}

std::vector<uint8_t> DecodeAll(const Sample& sample,
                               absl::Span<const char> coded, bool& is_done) {
  std::vector<char> padded(coded.begin(), coded.end());
  padded.resize(coded.size() + RansDecoder::kOverrun + 8);
  RansDecoder decoder;
  decoder.SetTables(sample.tables);
  std::vector<uint8_t> classes, tokens(sample.tokens.size());
  for (const uint8_t c : sample.contexts) classes.push_back(c % 100);
  is_done = decoder.Start({padded.data(), coded.size()});
  for (size_t i = 0; is_done && i < tokens.size() && decoder.IsWithin();) {
    const size_t n = std::min(RansDecoder::kTokensMax, tokens.size() - i);
    decoder.Decode(&classes[i], n, &tokens[i]);
    i += n;
  }
  is_done = is_done && decoder.IsDone();
  return tokens;
}

TEST(RansTest, GivesTokensOfEveryClassBack) {
  for (const size_t count : {0, 1, 2, 3, 4, 5, 63, 64, 65, 1000, 30001}) {
    const Sample sample = MakeSample(count);
    RansEncoder encoder;
    encoder.Start(sample.tables);
    bool is_done = false;
    EXPECT_EQ(DecodeAll(sample,
                        encoder.Encode(sample.tokens, sample.contexts,
                                       sample.class_of),
                        is_done),
              sample.tokens);
    EXPECT_TRUE(is_done) << count;
  }
}

TEST(RansTest, TakesHardlyMoreThanTheEntropy) {
  const Sample sample = MakeSample(300'000);
  RansEncoder encoder;
  encoder.Start(sample.tables);
  const size_t bytes =
      encoder.Encode(sample.tokens, sample.contexts, sample.class_of).size();
  const double p = 3.0 / 256;
  const double entropy =
      (8 - p * std::log2(p) - (1 - p) * std::log2(1 - p)) / 3;
  EXPECT_LT(static_cast<double>(8 * bytes), 1.01 * 300'000 * entropy);
}

TEST(RansTest, NoticesNearlyAllDamage) {
  const Sample sample = MakeSample(5000);
  RansEncoder encoder;
  encoder.Start(sample.tables);
  const absl::Span<const char> coded =
      encoder.Encode(sample.tokens, sample.contexts, sample.class_of);
  std::mt19937 random(3);
  int unnoticed = 0;
  for (int round = 0; round < 500; ++round) {
    std::vector<char> damaged(coded.begin(), coded.end());
    damaged[random() % damaged.size()] ^= static_cast<char>(1 + random() % 255);
    bool is_done = true;
    DecodeAll(sample, damaged, is_done);
    unnoticed += is_done ? 1 : 0;
  }
  // A low bit of a state may give other tokens and yet a good end.
  EXPECT_LT(unnoticed, 25);
}

}  // namespace
}  // namespace cairn
