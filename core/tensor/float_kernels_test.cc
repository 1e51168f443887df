#include "core/tensor/float_kernels.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

std::vector<float> RandomFloats(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) v = normal(random);
  return values;
}

struct Factors {
  Factors(int64_t rows, int64_t rank, int64_t columns)
      : left(RandomFloats(static_cast<size_t>(rows * rank), 1)),
        right(RandomFloats(static_cast<size_t>(rank * columns), 2)),
        product{left.data(), right.data(), rank, columns, 0.37f} {}

  std::vector<float> left, right;
  LowRankProduct product;
};

TEST(FloatKernelsTest, ProductSumsInRankOrderWithOneRoundingATerm) {
  const Factors f(5, 7, 83);
  std::vector<float> got(5 * 83);
  MultiplyLowRank(f.product, 0, absl::MakeSpan(got));
  for (size_t r = 0; r < 5; ++r) {
    for (size_t c = 0; c < 83; ++c) {
      volatile float sum = 0;  // no reordering
      for (size_t k = 0; k < 7; ++k) {
        sum = std::fmaf(f.left[r * 7 + k], f.right[k * 83 + c], sum);
      }
      volatile float want = sum * 0.37f;
      ASSERT_EQ(got[r * 83 + c], want) << r << "," << c;
    }
  }
}

TEST(FloatKernelsTest, ProductIsTheSameInAnyRange) {
  const Factors f(9, 16, 131);
  std::vector<float> whole(9 * 131);
  MultiplyLowRank(f.product, 0, absl::MakeSpan(whole));
  std::mt19937 random(3);
  for (int trial = 0; trial < 200; ++trial) {
    const size_t begin = random() % whole.size();
    const size_t count = random() % (whole.size() - begin + 1);
    std::vector<float> part(count);
    MultiplyLowRank(f.product, static_cast<int64_t>(begin),
                    absl::MakeSpan(part));
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(part[i], whole[begin + i]);
  }
}

TEST(FloatKernelsTest, AddsAProductAsItGivesIt) {
  const Factors f(11, 9, 300);
  std::vector<float> product(11 * 300);
  MultiplyLowRank(f.product, 0, absl::MakeSpan(product));
  const std::vector<float> before = RandomFloats(11 * 300, 9);
  for (const size_t first : {size_t{0}, size_t{17}, size_t{299}, size_t{900}}) {
    std::vector<float> sum(before.begin() + static_cast<ptrdiff_t>(first),
                           before.end());
    AddLowRank(f.product, 0.5f, static_cast<int64_t>(first),
               absl::MakeSpan(sum));
    for (size_t i = 0; i < sum.size(); ++i) {
      volatile float term = 0.5f * product[first + i];
      volatile float want = before[first + i] + term;
      ASSERT_EQ(sum[i], want) << first << " " << i;
    }
  }
}

TEST(FloatKernelsTest, AddScaledRoundsProductAndSum) {
  const std::vector<float> values = RandomFloats(77, 4);
  const std::vector<float> before = RandomFloats(77, 5);
  std::vector<float> sum = before;
  AddScaled(0.3f, values, absl::MakeSpan(sum));
  for (size_t i = 0; i < sum.size(); ++i) {
    volatile float term = 0.3f * values[i];
    volatile float want = before[i] + term;
    ASSERT_EQ(sum[i], want);
  }
}

TEST(FloatKernelsTest, SurvivalDoesNotDependOnHowTheTensorIsCut) {
  const std::vector<float> delta = RandomFloats(1000, 6);
  const std::vector<float> head = RandomFloats(1000, 7);
  std::vector<float> rounded(1000);
  for (size_t i = 0; i < 1000; ++i) {
    rounded[i] = std::round((head[i] + delta[i]) * 4) / 4;
  }
  SurvivalSums whole, cut;
  AddSurvival(0.5f, delta, head, rounded, whole);
  for (size_t first = 0; first < 1000; first += 264) {
    const size_t n = std::min<size_t>(264, 1000 - first);
    AddSurvival(0.5f, absl::MakeConstSpan(delta).subspan(first, n),
                absl::MakeConstSpan(head).subspan(first, n),
                absl::MakeConstSpan(rounded).subspan(first, n), cut);
  }
  for (int lane = 0; lane < SurvivalSums::kLanes; ++lane) {
    EXPECT_EQ(whole.wanted[lane], cut.wanted[lane]);
    EXPECT_EQ(whole.applied[lane], cut.applied[lane]);
    EXPECT_GT(whole.wanted[lane], 0);
  }
}

}  // namespace
}  // namespace cairn
