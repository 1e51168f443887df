#include "merge/eval/greedy_soup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace cairn {
namespace {

using ::testing::ElementsAre;
using Members = std::vector<size_t>;

// Scores from a table; a soup that is not in it fails the test.
SoupScorer FromTable(std::map<Members, double> table,
                     std::vector<Members>* asked = nullptr) {
  return [table = std::move(table), asked](absl::Span<const size_t> members)
             -> absl::StatusOr<double> {
    const Members key(members.begin(), members.end());
    if (asked != nullptr) asked->push_back(key);
    const auto found = table.find(key);
    if (found == table.end()) return absl::InternalError("an odd soup");
    return found->second;
  };
}

TEST(GreedySoupTest, KeepsWhatMakesTheMeanNoWorse) {
  std::vector<Members> asked;
  // From the best: 2, 0, 1, 3.
  const auto trials = CookGreedySoup(
      4, true,
      FromTable({{{0}, 0.7}, {{1}, 0.6}, {{2}, 0.8}, {{3}, 0.5},
                 {{0, 2}, 0.75},       // worse than 2 alone
                 {{1, 2}, 0.8},        // as good
                 {{1, 2, 3}, 0.9}},
                &asked));
  ASSERT_TRUE(trials.ok()) << trials.status();
  EXPECT_THAT(MembersOf(*trials), ElementsAre(1, 2, 3));
  EXPECT_EQ((*trials)[0].candidate, 2u);
  EXPECT_FALSE((*trials)[1].is_kept);
  EXPECT_EQ((*trials)[3].mixed, 0.9);
  EXPECT_EQ(asked.size(), 7u);
}

TEST(GreedySoupTest, LowerIsBetterForPerplexities) {
  const auto trials = CookGreedySoup(
      3, false,
      FromTable({{{0}, 9}, {{1}, 7}, {{2}, 7}, {{1, 2}, 6.5}, {{0, 1, 2}, 7}}));
  ASSERT_TRUE(trials.ok()) << trials.status();
  EXPECT_EQ((*trials)[0].candidate, 1u) << "of equal ones the earlier";
  EXPECT_THAT(MembersOf(*trials), ElementsAre(1, 2));
}

TEST(GreedySoupTest, ErrorsOfTheScorerEndIt) {
  EXPECT_EQ(CookGreedySoup(2, true, FromTable({{{0}, 1}})).status().code(),
            absl::StatusCode::kInternal);
  EXPECT_TRUE(absl::IsInvalidArgument(
      CookGreedySoup(0, true, FromTable({})).status()));
}

}  // namespace
}  // namespace cairn
