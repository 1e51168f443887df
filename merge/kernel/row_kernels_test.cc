#include "merge/kernel/row_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace cairn {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Numbers between -spread and spread, in no order.
std::vector<float> SomeNumbers(size_t count, float spread) {
  std::vector<float> out;
  uint32_t state = 12345;
  for (size_t i = 0; i < count; ++i) {
    state = state * 1664525 + 1013904223;
    const float unit = static_cast<float>(state >> 8) / (1 << 24);
    out.push_back((2 * unit - 1) * spread);
  }
  return out;
}

// Widths around that of a vector and of the lanes.
constexpr int64_t kWidths[] = {1, 2, 7, 8, 15, 16, 17, 31, 33, 64, 100, 259};

TEST(RmsNormRowsTest, FollowsTheDefinition) {
  for (const int64_t width : kWidths) {
    const auto count = static_cast<size_t>(width);
    const std::vector<float> x = SomeNumbers(3 * count, 4);
    const std::vector<float> gain = SomeNumbers(count, 2);
    std::vector<float> out(x.size());
    RmsNormRows(x.data(), gain.data(), 3, width, 1e-5F, out.data());
    for (size_t r = 0; r < 3; ++r) {
      double squares = 0;
      for (size_t i = 0; i < count; ++i) {
        squares += std::pow(static_cast<double>(x[r * count + i]), 2);
      }
      const double root =
          std::sqrt(squares / static_cast<double>(width) + 1e-5);
      for (size_t i = 0; i < count; ++i) {
        const double want = x[r * count + i] / root * gain[i];
        ASSERT_NEAR(out[r * count + i], want, 2e-6) << width;
      }
    }
  }
}

TEST(SiluProductRowsTest, FollowsTheDefinitionToTheEnds) {
  std::vector<float> gate = SomeNumbers(300, 20);
  for (float end : {0.0F, 87.5F, -87.5F, 200.0F, -200.0F, 1e30F, -1e30F}) {
    gate.push_back(end);
  }
  const std::vector<float> up = SomeNumbers(gate.size(), 3);
  std::vector<float> out(gate.size());
  const auto width = static_cast<int64_t>(gate.size());
  SiluProductRows(gate.data(), up.data(), 1, width, width, out.data());
  for (size_t i = 0; i < gate.size(); ++i) {
    const double g = gate[i], want = g / (1 + std::exp(-g)) * up[i];
    ASSERT_NEAR(out[i], want, 1e-6 * std::fabs(want) + 1e-35) << gate[i];
  }
}

TEST(SiluProductRowsTest, TakesRowsThatLieApart) {
  const std::vector<float> both = SomeNumbers(4 * 6, 3);  // [4, 3 + 3]
  std::vector<float> out(12), packed(12), up(12), want(12);
  for (size_t i = 0; i < 12; ++i) {
    packed[i] = both[i / 3 * 6 + i % 3];
    up[i] = both[i / 3 * 6 + 3 + i % 3];
  }
  SiluProductRows(both.data(), both.data() + 3, 4, 3, 6, out.data());
  SiluProductRows(packed.data(), up.data(), 4, 3, 3, want.data());
  EXPECT_EQ(out, want);
}

TEST(RotateRowsTest, TurnsPairsAndKeepsTheRest) {
  const std::vector<float> x = SomeNumbers(2 * 9, 3);  // rows of 7, 9 apart
  const std::vector<float> angles = SomeNumbers(2 * 2, 3);
  std::vector<float> cos, sin, out(14);
  for (const float angle : angles) {
    cos.push_back(std::cos(angle));
    sin.push_back(std::sin(angle));
  }
  RotateRows(x.data(), 9, cos.data(), sin.data(), 2, 2, 7, out.data());
  for (size_t r = 0; r < 2; ++r) {
    const float* in = x.data() + r * 9;
    for (size_t i = 0; i < 2; ++i) {
      const float c = cos[r * 2 + i], s = sin[r * 2 + i];
      EXPECT_NEAR(out[r * 7 + i], in[i] * c - in[2 + i] * s, 1e-6);
      EXPECT_NEAR(out[r * 7 + 2 + i], in[2 + i] * c + in[i] * s, 1e-6);
    }
    for (size_t i = 4; i < 7; ++i) EXPECT_EQ(out[r * 7 + i], in[i]);
  }
}

TEST(ExpChunksTest, FollowsTheDefinitionAndLeavesTheGaps) {
  std::vector<float> row = SomeNumbers(48, 30);
  row[7] = -kInfinity;
  row[20] = -1e30F;
  const float most = *std::max_element(row.begin(), row.end());
  std::vector<float> out(3 * 20, 77.0F);
  const float sum = ExpChunks(row.data(), 48, 20, out.data());
  double want_sum = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t chunk = i / 20, lane = i % 20;
    const double want =
        lane < 16 ? std::exp(static_cast<double>(row[chunk * 16 + lane]) - most)
                  : 77;
    ASSERT_NEAR(out[i], want, 1e-6) << i;
    if (lane < 16) want_sum += want;
  }
  EXPECT_NEAR(sum, want_sum, 1e-5);
  EXPECT_EQ(out[7], 0);
  EXPECT_EQ(out[24], 0);
}

TEST(ExpChunksTest, ShowsNan) {
  std::vector<float> row = SomeNumbers(16, 2), out(16);
  for (const size_t place : {size_t{0}, size_t{9}}) {
    std::vector<float> damaged = row;
    damaged[place] = kNan;
    EXPECT_TRUE(std::isnan(ExpChunks(damaged.data(), 16, 16, out.data())));
  }
}

TEST(LogSumExpTest, FollowsTheDefinitionAtAnyHeight) {
  for (const int64_t width : kWidths) {
    for (const float height : {0.0F, 1000.0F, -1000.0F}) {
      std::vector<float> row = SomeNumbers(static_cast<size_t>(width), 20);
      double sum = 0;
      for (float& value : row) {
        value += height;
        sum += std::exp(static_cast<double>(value) - height);
      }
      EXPECT_NEAR(LogSumExp(row.data(), width), height + std::log(sum), 1e-6);
    }
  }
}

TEST(LogSumExpTest, IsNotFiniteWhereARowIsNot) {
  for (const float value : {kInfinity, kNan}) {
    for (const size_t place : {size_t{0}, size_t{3}, size_t{20}}) {
      std::vector<float> row = SomeNumbers(40, 2);
      row[place] = value;
      EXPECT_FALSE(std::isfinite(LogSumExp(row.data(), 40)));
    }
  }
}

// A row's result does not depend on where it lies or on its neighbours.
TEST(RowKernelsTest, ARowStandsAlone) {
  constexpr int64_t kWidth = 37;
  const std::vector<float> x = SomeNumbers(5 * kWidth, 4);
  const std::vector<float> gain = SomeNumbers(kWidth, 2);
  std::vector<float> all(x.size()), one(kWidth);
  RmsNormRows(x.data(), gain.data(), 5, kWidth, 1e-5F, all.data());
  for (int64_t r = 0; r < 5; ++r) {
    RmsNormRows(x.data() + r * kWidth, gain.data(), 1, kWidth, 1e-5F,
                one.data());
    EXPECT_EQ(std::memcmp(one.data(), all.data() + r * kWidth,
                          kWidth * sizeof(float)),
              0);
  }
}

}  // namespace
}  // namespace cairn
