#include "merge/method/counter_random.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "merge/method/element_math.h"

namespace cairn {
namespace {

// Vectors of the Random123 distribution.
TEST(CounterRandomTest, PhiloxGivesTheKnownAnswers) {
  const uint32_t zeros[4] = {};
  const PhiloxBlock a = Philox(zeros, 0);
  EXPECT_EQ(a.words[0], 0x6627e8d5u);
  EXPECT_EQ(a.words[1], 0xe169c58du);
  EXPECT_EQ(a.words[2], 0xbc57ac4cu);
  EXPECT_EQ(a.words[3], 0x9b00dbd8u);
  const uint32_t ones[4] = {~0u, ~0u, ~0u, ~0u};
  const PhiloxBlock b = Philox(ones, ~uint64_t{0});
  EXPECT_EQ(b.words[0], 0x408f276du);
  EXPECT_EQ(b.words[1], 0x41c83b0eu);
  EXPECT_EQ(b.words[2], 0xa20bc7c6u);
  EXPECT_EQ(b.words[3], 0x6d5451fdu);
}

TEST(CounterRandomTest, WordsAreThoseOfTheBlocks) {
  std::vector<uint32_t> words(128);
  RandomWords(42, 0, words.data(), words.size());
  const uint32_t counter[4] = {17, 0, 0, 0};  // second group, second block
  const PhiloxBlock block = Philox(counter, 42);
  for (size_t w = 0; w < 4; ++w) {
    EXPECT_EQ(words[64 + w * 16 + 1], block.words[w]);
  }
}

TEST(CounterRandomTest, AnyRangeGivesTheSameWords) {
  std::vector<uint32_t> whole(1000);
  RandomWords(7, 0, whole.data(), whole.size());
  for (size_t first = 0; first < 300; first += 37) {
    std::vector<uint32_t> part(211);
    RandomWords(7, static_cast<int64_t>(first), part.data(), part.size());
    for (size_t i = 0; i < part.size(); ++i) {
      ASSERT_EQ(part[i], whole[first + i]);
    }
  }
}

TEST(CounterRandomTest, OneWordIsThatOfTheStream) {
  constexpr int64_t kFirst = (int64_t{1} << 40) + 5;
  std::vector<uint32_t> words(300);
  RandomWords(9, kFirst, words.data(), words.size());
  for (size_t i = 0; i < words.size(); ++i) {
    ASSERT_EQ(RandomWord(9, static_cast<uint64_t>(kFirst) + i), words[i]);
  }
}

TEST(CounterRandomTest, AMaskHasTheWordsBelowABound) {
  constexpr int64_t kFirst = (int64_t{1} << 40) + 128;
  std::vector<uint32_t> words(300);
  RandomWords(9, kFirst, words.data(), words.size());
  for (const uint32_t threshold : {0u, 1u << 30, 1u << 31, 3u << 30, ~0u}) {
    std::vector<uint64_t> bits(5);
    RandomMask(9, kFirst, threshold, bits.data(), words.size());
    for (size_t i = 0; i < words.size(); ++i) {
      ASSERT_EQ((bits[i / 64] >> (i % 64)) & 1, words[i] < threshold ? 1u : 0u)
          << threshold << " " << i;
    }
  }
}

TEST(CounterRandomTest, KeysTellSeedInputAndTensorApart) {
  EXPECT_NE(RandomKey(1, 2, "a"), RandomKey(2, 2, "a"));
  EXPECT_NE(RandomKey(1, 2, "a"), RandomKey(1, 3, "a"));
  EXPECT_NE(RandomKey(1, 2, "a"), RandomKey(1, 2, "b"));
}

}  // namespace
}  // namespace cairn
