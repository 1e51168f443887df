#include "merge/method/rank_selector.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

std::vector<float> Values(size_t count, bool is_coarse) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& v : values) {
    v = is_coarse ? std::round(normal(random) * 4) / 4 : normal(random);
  }
  return values;
}

TEST(RankSelectorTest, FindsEveryRankAsSortingDoes) {
  const std::vector<float> values = Values(3001, true);
  std::vector<float> sorted;
  for (float v : values) sorted.push_back(std::fabs(v));
  std::sort(sorted.begin(), sorted.end());
  const std::vector<int64_t> ranks = {0, 1, 700, 1500, 1501, 2999, 3000};
  RankSelector selector(ranks);
  for (int pass = 0; pass < RankSelector::kPasses; ++pass) {
    selector.Count(pass, values.data(), values.size());
    selector.EndPass(pass);
  }
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto rank = static_cast<size_t>(ranks[i]);
    EXPECT_EQ(selector.Value(i), sorted[rank]);
    const auto first =
        std::lower_bound(sorted.begin(), sorted.end(), sorted[rank]);
    EXPECT_EQ(selector.EqualBefore(i), ranks[i] - (first - sorted.begin()));
  }
}

}  // namespace
}  // namespace cairn
