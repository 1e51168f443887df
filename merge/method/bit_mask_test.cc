#include "merge/method/bit_mask.h"

#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

class BitMaskTest : public testing::TestWithParam<size_t> {
 protected:
  BitMaskTest() : values_(GetParam()), words_(GetParam()) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal;
    for (float& value : values_) value = normal(random);
    for (uint32_t& word : words_) {
      word = random() % 2 == 0 ? 0 : static_cast<uint32_t>(random()) | 1;
    }
    bits_.assign(MaskWords(GetParam()), ~uint64_t{0});
    PackMask(words_.data(), bits_.data(), words_.size());
  }

  std::vector<float> values_;
  std::vector<uint32_t> words_;
  std::vector<uint64_t> bits_;
};

TEST_P(BitMaskTest, ScalesWhatIsKeptAndZeroesTheRest) {
  std::vector<float> got = values_;
  ScaleKept(bits_.data(), 1.7f, got.data(), got.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], words_[i] != 0 ? 1.7f * values_[i] : 0.0f) << i;
  }
}

TEST_P(BitMaskTest, KeepsOfADifference) {
  std::vector<float> base(values_.rbegin(), values_.rend());
  std::vector<float> got(values_.size());
  KeepDifference(bits_.data(), 1.7f, values_.data(), base.data(), 0.3f,
                 got.data(), got.size());
  std::vector<float> want(values_.size());
  Subtract(values_.data(), base.data(), want.data(), want.size());
  ScaleKept(bits_.data(), 1.7f, want.data(), want.size());
  Scale(0.3f, want.data(), want.data(), want.size());
  EXPECT_EQ(got, want);
}

TEST_P(BitMaskTest, SumsAsOverWhatIsKept) {
  std::vector<float> kept = values_;
  ScaleKept(bits_.data(), 1.0f, kept.data(), kept.size());
  double want_before = 0.25, want_after = 0.5;
  AddL1(values_.data(), values_.size(), want_before);
  AddL1(kept.data(), kept.size(), want_after);
  double before = 0.25, after = 0.5;
  AddL1Kept(values_.data(), bits_.data(), values_.size(), before, after);
  EXPECT_EQ(before, want_before);
  EXPECT_EQ(after, want_after);
}

INSTANTIATE_TEST_SUITE_P(Lengths, BitMaskTest,
                         testing::Values(1, 63, 64, 100, 4096, 9999));

}  // namespace
}  // namespace cairn
