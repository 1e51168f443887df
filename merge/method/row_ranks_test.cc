#include "merge/method/row_ranks.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

enum class Kind { kSmooth, kCoarse, kMostlyZero, kEqual };

std::vector<float> Values(Kind kind, size_t count) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) {
    v = normal(random);
    if (kind == Kind::kCoarse) v = std::round(v * 8) / 8;
    if (kind == Kind::kMostlyZero && random() % 10 != 0) v = 0;
    if (kind == Kind::kEqual) v = 3;
  }
  return values;
}

// The rank of each magnitude; of equal ones the later rank higher.
std::vector<size_t> Ranks(const std::vector<float>& values) {
  std::vector<size_t> order(values.size()), ranks(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::fabs(values[a]) < std::fabs(values[b]);
  });
  for (size_t rank = 0; rank < order.size(); ++rank) ranks[order[rank]] = rank;
  return ranks;
}

TEST(RankedChooserTest, ChoosesByTheExactRank) {
  constexpr double kDensity = 0.5, kEpsilon = 0.2;
  std::mt19937 random(2);
  for (const Kind kind :
       {Kind::kSmooth, Kind::kCoarse, Kind::kMostlyZero, Kind::kEqual}) {
    for (const size_t length : {1u, 2u, 7u, 2048u, 5001u}) {
      const std::vector<float> values = Values(kind, length);
      const std::vector<size_t> ranks = Ranks(values);
      RankedChooser chooser(length, kDensity, kEpsilon);
      for (const size_t stride : {1u, 3u}) {
        std::vector<float> spread(length * stride, 9.0f);
        std::vector<uint32_t> words(spread.size(), 5);
        std::vector<double> drawn(length);
        for (size_t i = 0; i < length; ++i) {
          spread[i * stride] = values[i];
          words[i * stride] = static_cast<uint32_t>(random());
          drawn[i] = std::ldexp(static_cast<double>(words[i * stride]), -32);
        }
        chooser.Choose(spread.data(), words.data(), stride);
        for (size_t i = 0; i < length; ++i) {
          double probability = kDensity;
          if (length > 1) {
            probability += kEpsilon * (2 * static_cast<double>(ranks[i]) /
                                           static_cast<double>(length - 1) -
                                       1);
          }
          // The last bit of a product may decide such a one either way.
          if (std::fabs(drawn[i] - probability) < 1e-9) continue;
          const bool is_kept = drawn[i] < probability;
          ASSERT_EQ(words[i * stride], is_kept ? 1u : 0u)
              << static_cast<int>(kind) << " " << length << " " << i;
        }
        if (stride > 1 && length > 1) {
          EXPECT_EQ(words[1], 5u);  // of another row
        }
      }
    }
  }
}

}  // namespace
}  // namespace cairn
