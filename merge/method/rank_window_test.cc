#include "merge/method/rank_window.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

enum class Kind { kSmooth, kCoarse, kMostlyZero, kUneven, kMisleading };

std::vector<float> Values(Kind kind, size_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    float& v = values[i];
    v = normal(random);
    if (kind == Kind::kCoarse) v = std::round(v * 4) / 4;
    if (kind == Kind::kMostlyZero && random() % 10 != 0) v = 0;
    if (kind == Kind::kUneven) v *= 1 + 0.05f * static_cast<float>(i / 1000 % 7);
    // Where the look does not see it.
    if (kind == Kind::kMisleading && i % 4096 >= kLookElements) v *= 100;
  }
  return values;
}

// As the engine shows a tensor; returns how many passes saw all of it.
int Feed(RankWindow& window, const std::vector<float>& values) {
  int passes = 0;
  const auto elements = static_cast<int64_t>(values.size());
  for (int pass = 0; pass < RankWindow::kPasses; ++pass) {
    const PassScope scope = window.scope(pass);
    if (scope == PassScope::kLook) {
      for (int64_t first : LookPlaces(elements)) {
        const int64_t count = std::min(kLookElements, elements - first);
        window.Count(pass, values.data() + first, static_cast<size_t>(count));
      }
    } else if (scope == PassScope::kAll) {
      ++passes;
      window.Count(pass, values.data(), 1000);
      window.Count(pass, values.data() + 1000, values.size() - 1000);
    }
    window.EndPass(pass);
  }
  return passes;
}

// Only ranks in [begin, end), later ones of equals ranking higher.
std::vector<float> Sorted(const std::vector<float>& values,
                          const std::vector<size_t>& order, int64_t begin,
                          int64_t end) {
  std::vector<float> kept(values.size(), 0.0f);
  for (int64_t rank = begin; rank < end; ++rank) {
    const size_t at = order[static_cast<size_t>(rank)];
    kept[at] = values[at];
  }
  return kept;
}

// Returns how many passes each of a few windows took.
std::vector<int> CheckWindows(Kind kind, int64_t elements) {
  const std::vector<float> values = Values(kind, static_cast<size_t>(elements));
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::fabs(values[a]) < std::fabs(values[b]);
  });
  std::vector<int> passes;
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{
           {elements * 4 / 5, elements},
           {elements / 7, elements * 6 / 7},
           {0, elements},
           {100, 101},
           {elements - 1, elements},
           {7, 7}}) {
    RankWindow window(begin, end, elements);
    passes.push_back(Feed(window, values));
    const std::vector<float> wanted = Sorted(values, order, begin, end);
    for (int round = 0; round < 2; ++round) {  // Rewind() starts again
      std::vector<float> got = values;
      window.Rewind();
      window.Apply(got.data(), 1500);
      window.Apply(got.data() + 1500, got.size() - 1500);
      EXPECT_TRUE(got == wanted)
          << static_cast<int>(kind) << " " << begin << " " << end;
    }
  }
  return passes;
}

TEST(RankWindowTest, KeepsExactlyTheWindowOfASmallTensor) {
  for (const Kind kind : {Kind::kSmooth, Kind::kCoarse, Kind::kMostlyZero}) {
    EXPECT_EQ(CheckWindows(kind, 5000), (std::vector<int>{1, 1, 1, 1, 1, 0}));
  }
}

TEST(RankWindowTest, TakesALookAndAPassOverALargeOne) {
  for (const Kind kind : {Kind::kSmooth, Kind::kCoarse, Kind::kMostlyZero,
                          Kind::kUneven}) {
    EXPECT_EQ(CheckWindows(kind, 400'001),
              (std::vector<int>{1, 1, 1, 1, 1, 0}));
  }
}

TEST(RankWindowTest, IsExactWhenTheLookMisleads) {
  const std::vector<int> passes = CheckWindows(Kind::kMisleading, 400'001);
  EXPECT_EQ(passes[0], 3);  // one that found nothing, and two
}

// A look of which too much would have to be kept leads to two passes at once.
TEST(RankWindowTest, SkipsThePassThatWouldKeepTooMuch) {
  std::vector<float> values(400'000);
  std::mt19937 random(1);
  for (size_t i = 0; i < values.size(); ++i) {
    // Half of the places lie below, half above.
    const bool is_large = i / 8192 % 2 == 0;
    values[i] = static_cast<float>(random() % 1000000) +
                (is_large ? 1e7f : 1.0f);
  }
  const int64_t begin = 200'000;
  RankWindow window(begin, 400'000, 400'000);
  EXPECT_EQ(Feed(window, values), 2);
  std::vector<float> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  window.Apply(values.data(), values.size());
  EXPECT_EQ(std::count(values.begin(), values.end(), 0.0f), begin);
  for (float v : values) {
    EXPECT_TRUE(v == 0 || v >= sorted[static_cast<size_t>(begin)]);
  }
}

}  // namespace
}  // namespace cairn
