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

void Feed(RankWindow& window, const std::vector<float>& values) {
  for (int pass = 0; pass < RankWindow::kPasses; ++pass) {
    window.Count(pass, values.data(), 1000);
    window.Count(pass, values.data() + 1000, values.size() - 1000);
    window.EndPass(pass);
  }
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

TEST(RankWindowTest, KeepsExactlyTheWindowWithLaterEqualsHigher) {
  for (const bool is_coarse : {false, true}) {
    const std::vector<float> values = Values(5000, is_coarse);
    std::vector<size_t> order(values.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return std::fabs(values[a]) < std::fabs(values[b]);
    });
    for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
             {0, 5000}, {4000, 5000}, {100, 101}, {1234, 4321}, {7, 7}}) {
      std::vector<float> want(values.size(), 0.0f);
      for (int64_t rank = begin; rank < end; ++rank) {
        const size_t at = order[static_cast<size_t>(rank)];
        want[at] = values[at];
      }
      RankWindow window(begin, end, 5000);
      Feed(window, values);
      for (int round = 0; round < 2; ++round) {  // Rewind() starts again
        std::vector<float> got = values;
        window.Rewind();
        window.Apply(got.data(), 1500);
        window.Apply(got.data() + 1500, got.size() - 1500);
        EXPECT_EQ(got, want) << begin << " " << end;
      }
    }
  }
}

}  // namespace
}  // namespace cairn
