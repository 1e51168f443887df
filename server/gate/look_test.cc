#include "server/gate/look.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using Decision = v1::Verdict;

constexpr char kName[] = "models/m/suites/s";
constexpr double kNoise = 0.035;
constexpr int kItems = 400;
// Of a gain over all items.
const double kError = kNoise / std::sqrt(kItems);

struct Pair {
  v1::SplitScores base;
  v1::SplitScores candidate;
};

// Items of one token whose score gets better by `gain` and chance.
Pair Draw(std::mt19937& random, double gain, int group_size = 1) {
  std::normal_distribution<double> noise(gain, kNoise);
  Pair out;
  for (v1::SplitScores* scores : {&out.base, &out.candidate}) {
    scores->set_suite(kName);
    scores->set_suite_version(1);
    scores->set_split("gate");
    scores->set_metric("perplexity");
  }
  double nll = 0;
  for (int i = 0; i < kItems; ++i) {
    const double score = -2 - std::sin(i);
    nll -= score;
    out.base.add_scores(score);
    out.candidate.add_scores(score + noise(random));
    for (v1::SplitScores* scores : {&out.base, &out.candidate}) {
      scores->add_tokens(1);
      if (group_size > 1) scores->add_groups(absl::StrCat("g", i / group_size));
    }
  }
  out.base.set_value(std::exp(nll / kItems));
  return out;
}

// What a suite is to a decision.
struct Role {
  bool is_protected = false;
  bool is_claimed = false;
  bool is_canary = false;
  double margin = 0.1;
  double claim_level = 1;
};
Role Claimed(double level) {
  return {.is_claimed = true, .claim_level = level};
}

// What is known at a look: the scores of all looks up to it.
GateSuite At(const Pair& pair, int look, const Role& role = {}) {
  // The same for all that have no groups, and slow to find.
  static auto* const items_by_look =
      new std::map<int, std::vector<int32_t>>();
  std::vector<v1::SplitScores> parts;
  for (int i = 0; i <= look; ++i) {
    std::vector<int32_t>& items = (*items_by_look)[i];
    if (items.empty() || !pair.base.groups().empty()) {
      items = ItemsOfLook(pair.base, i);
    }
    parts.push_back(PartOf(pair.candidate, items));
    if (!pair.base.groups().empty()) items.clear();
  }
  std::vector<const v1::SplitScores*> pointers;
  for (const auto& part : parts) pointers.push_back(&part);
  const v1::SplitScores joined = JoinParts(pointers).value();
  return {.name = kName,
          .is_protected = role.is_protected,
          .is_claimed = role.is_claimed,
          .is_canary = role.is_canary,
          .margin = role.margin,
          .claim_level = role.claim_level,
          .difference = PairedDifference::Compare(
                            PartOf(pair.base, joined.items()), joined)
                            .value()};
}

TEST(LookTest, LooksSpendTheWholeLevelAndNoMore) {
  double levels = 0, last = 0;
  for (const Look& look : kLooks) {
    levels += look.level;
    EXPECT_GT(look.items, last);
    last = look.items;
  }
  EXPECT_NEAR(levels, 1, 1e-12);
  EXPECT_EQ(last, 1);
}

TEST(LookTest, EveryItemIsScoredOnceAndGroupsStayTogether) {
  std::mt19937 random(1);
  const Pair pair = Draw(random, 0, 5);
  std::set<int32_t> seen;
  for (int look = 0; look <= kLastLook; ++look) {
    const std::vector<int32_t> items = ItemsOfLook(pair.base, look);
    for (int32_t item : items) EXPECT_TRUE(seen.insert(item).second);
    for (int32_t item : items) {
      EXPECT_TRUE(seen.contains(item / 5 * 5)) << "the group of " << item;
    }
    EXPECT_NEAR(static_cast<double>(seen.size()), kLooks[look].items * kItems,
                5);
  }
  EXPECT_EQ(seen.size(), kItems);
  v1::SplitScores other = pair.base;
  other.set_suite_version(2);
  EXPECT_NE(ItemsOfLook(other, 0), ItemsOfLook(pair.base, 0));
}

TEST(LookTest, AllPartsTogetherAreTheWhole) {
  std::mt19937 random(2);
  const Pair pair = Draw(random, 0.01, 5);
  const auto whole = PairedDifference::Compare(pair.base, pair.candidate);
  const PairedDifference joined = At(pair, kLastLook).difference;
  EXPECT_EQ(joined.gain(), whole->gain());
  EXPECT_EQ(joined.standard_error(), whole->standard_error());
  const v1::Report report = joined.MakeReport(0.05, 0.05, 0.01, "cpu");
  EXPECT_NEAR(report.base(), pair.base.value(), 1e-9);
  EXPECT_NEAR(report.candidate() / report.base(), 1 - joined.gain(), 1e-9);
}

TEST(LookTest, PartsThatOverlapOrAreWholeAreRefused) {
  std::mt19937 random(3);
  const Pair pair = Draw(random, 0);
  const v1::SplitScores part = PartOf(pair.candidate, {1, 2});
  EXPECT_EQ(JoinParts({&part, &part}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(JoinParts({&pair.candidate}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(JoinParts({}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(LookTest, WhatIsClearStopsAtTheFirstLook) {
  std::mt19937 random(4);
  auto good = DecideLook({At(Draw(random, 20 * kError), 0, Claimed(0.01))}, 0.05,
                         Decision::FAIL, 0);
  ASSERT_TRUE(good.has_value());
  EXPECT_EQ(good->decision, Decision::PASS);
  auto bad = DecideLook({At(Draw(random, -0.05), 0,
                            {.is_protected = true, .margin = 0.01})},
                        0.05, Decision::FAIL, 0);
  ASSERT_TRUE(bad.has_value());
  EXPECT_EQ(bad->decision, Decision::FAIL);
  EXPECT_EQ(bad->reasons[0].code(), v1::Reason::SUITE_REGRESSED);
  auto hopeless = DecideLook({At(Draw(random, -8 * kError), 0, Claimed(0.01))},
                             0.05, Decision::FAIL, 0);
  ASSERT_TRUE(hopeless.has_value());
  EXPECT_EQ(hopeless->reasons[0].code(), v1::Reason::CLAIM_NOT_SHOWN);
}

TEST(LookTest, WhatIsNotClearGoesOn) {
  std::mt19937 random(5);
  for (int look = 0; look < kLastLook; ++look) {
    EXPECT_FALSE(DecideLook({At(Draw(random, 2 * kError), look, Claimed(0.01))},
                            0.05, Decision::FAIL, look)
                     .has_value());
  }
  EXPECT_TRUE(DecideLook({At(Draw(random, 2 * kError), kLastLook,
                             Claimed(0.01))},
                         0.05, Decision::FAIL, kLastLook)
                  .has_value());
}

TEST(LookTest, ACanaryThatMayHaveBeenLearntKeepsItGoing) {
  std::mt19937 random(6);
  const GateSuite claimed = At(Draw(random, 20 * kError), 0, Claimed(0.01));
  GateSuite canary = At(Draw(random, 0.01), 0, {.is_canary = true,
                                                .margin = 0.01});
  canary.name = "models/m/suites/canary";
  EXPECT_FALSE(
      DecideLook({claimed, canary}, 0.05, Decision::FAIL, 0).has_value());
}

// Whether a claim is shown at any look; `looks` counts those that were made.
bool Shown(std::mt19937& random, double gain, double level, int& looks) {
  const Pair pair = Draw(random, gain);
  for (int look = 0;; ++look) {
    ++looks;
    auto decision = DecideLook({At(pair, look, Claimed(level))}, 0.05,
                               Decision::FAIL, look);
    if (decision.has_value()) return decision->decision == Decision::PASS;
  }
}

TEST(LookTest, PeekingErrsNoMoreOftenThanItsLevel) {
  std::mt19937 random(7);
  constexpr int kRounds = 600;
  constexpr double kLevel = 0.05;
  int shown = 0, looks = 0;
  for (int i = 0; i < kRounds; ++i) shown += Shown(random, 0, kLevel, looks);
  EXPECT_LE(shown, kLevel * kRounds + 3 * std::sqrt(kLevel * kRounds));
  EXPECT_LT(looks, 2.85 * kRounds) << "some end early";
}

TEST(LookTest, PeekingCostsLittlePower) {
  std::mt19937 random(8);
  constexpr int kRounds = 300;
  // Shown in 80 % of cases by one look at all items.
  const double gain = DetectableEffect(kError, kItems, 0.01);
  int shown = 0, looks = 0;
  for (int i = 0; i < kRounds; ++i) shown += Shown(random, gain, 0.01, looks);
  EXPECT_GE(shown, 0.7 * kRounds);
}

}  // namespace
}  // namespace cairn
