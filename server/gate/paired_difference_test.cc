#include "server/gate/paired_difference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace cairn {
namespace {

using ::testing::HasSubstr;

v1::SplitScores Scores(const std::string& metric) {
  v1::SplitScores scores;
  scores.set_suite("models/m/suites/s");
  scores.set_suite_version(1);
  scores.set_split("gate");
  scores.set_metric(metric);
  return scores;
}

// Items without a point, of one token each.
v1::SplitScores NoPoints(int items) {
  v1::SplitScores scores = Scores("acc");
  for (int i = 0; i < items; ++i) {
    scores.add_scores(0);
    scores.add_tokens(1);
  }
  return scores;
}

// Items of very different difficulty; the candidate's mean loss a token is
// higher by `delta`, with noise `sigma` an item.
std::pair<v1::SplitScores, v1::SplitScores> Perplexities(std::mt19937& random,
                                                         int items,
                                                         double delta,
                                                         double sigma) {
  std::normal_distribution<double> noise(0, 1);
  auto base = Scores("perplexity"), candidate = Scores("perplexity");
  double base_sum = 0, candidate_sum = 0, tokens = 0;
  for (int i = 0; i < items; ++i) {
    const int count = 50 + static_cast<int>(random() % 100);
    const double loss = 2 + 0.5 * noise(random);
    const double change = delta + sigma * noise(random);
    base.add_scores(-loss * count);
    candidate.add_scores(-(loss + change) * count);
    base.add_tokens(count);
    candidate.add_tokens(count);
    base_sum += loss * count;
    candidate_sum += (loss + change) * count;
    tokens += count;
  }
  base.set_value(std::exp(base_sum / tokens));
  candidate.set_value(std::exp(candidate_sum / tokens));
  return {base, candidate};
}

TEST(PairedDifferenceTest, GainIsTheRelativeChangeOfPerplexity) {
  std::mt19937 random(1);
  auto [base, candidate] = Perplexities(random, 40, -0.05, 0.02);
  auto d = PairedDifference::Compare(base, candidate).value();
  EXPECT_NEAR(d.gain(), 1 - candidate.value() / base.value(), 1e-12);
  EXPECT_GT(d.gain(), 0);
  EXPECT_LT(d.LowerBound(0.05), d.gain());
  EXPECT_GT(d.UpperBound(0.05), d.gain());
}

// The same by hand: two items of one token each, changes +0.1 and +0.3.
TEST(PairedDifferenceTest, MatchesAHandComputation) {
  auto base = Scores("perplexity"), candidate = Scores("perplexity");
  for (double s : {-1.0, -2.0}) base.add_scores(s);
  for (double s : {-0.9, -1.7}) candidate.add_scores(s);
  for (int i = 0; i < 2; ++i) {
    base.add_tokens(1);
    candidate.add_tokens(1);
  }
  base.set_value(std::exp(1.5));
  candidate.set_value(std::exp(1.3));
  auto d = PairedDifference::Compare(base, candidate).value();
  EXPECT_NEAR(d.gain(), 1 - std::exp(-0.2), 1e-12);
  // Residuals -0.1 and 0.1: sqrt(0.02 * 2 / 1) / 2 = 0.1 on the log scale.
  EXPECT_NEAR(d.standard_error(), std::exp(-0.2) * 0.1, 1e-12);
  EXPECT_EQ(d.degrees_of_freedom(), 1);
  // t(1) at 0.95 is 6.3138. Two items cannot rule out a skewness of
  // -sqrt(6 / 2), as of 2/3 of a Poisson event; with the tail that lies beyond
  // 6.3138 on the normal scale there are at most 24.9911 of them, and
  // (24.9911 - 2/3) * sqrt(3 / 2) = 29.7912 (SciPy's gammainccinv).
  EXPECT_NEAR(d.LowerBound(0.05), 1 - std::exp(-(0.2 - 2.97912)), 1e-3);
}

TEST(PairedDifferenceTest, IdenticalSidesHaveNoDifferenceAndNoError) {
  std::mt19937 random(2);
  auto [base, unused] = Perplexities(random, 20, 0, 0.1);
  auto d = PairedDifference::Compare(base, base).value();
  EXPECT_EQ(d.gain(), 0);
  EXPECT_EQ(d.LowerBound(0.05), 0);
  EXPECT_EQ(d.PValueAbove(0), 1);
  EXPECT_EQ(d.PValueAbove(-0.01), 0);
  EXPECT_EQ(d.PValueBelow(0), 1);
}

// With a true loss exactly at the threshold, "surely below it" is said in at
// most about alpha of all cases.
TEST(PairedDifferenceTest, ErrorRateIsAlpha) {
  std::mt19937 random(3);
  int below = 0, covered = 0;
  constexpr int kRounds = 2000;
  const double margin = 0.03;
  for (int i = 0; i < kRounds; ++i) {
    auto [base, candidate] = Perplexities(random, 48, std::log1p(margin), 0.05);
    auto d = PairedDifference::Compare(base, candidate).value();
    below += d.PValueBelow(-margin) < 0.05;
    covered += d.LowerBound(0.05) <= -margin;
  }
  EXPECT_NEAR(below / double{kRounds}, 0.05, 0.02);
  EXPECT_NEAR(covered / double{kRounds}, 0.95, 0.02);
}

TEST(PairedDifferenceTest, PowerIsAboutEightyPercentAtTheDetectableEffect) {
  std::mt19937 random(4);
  auto [b, c] = Perplexities(random, 60, 0, 0.05);
  const double effect =
      PairedDifference::Compare(b, c)->MinimumDetectableEffect(0.05);
  int shown = 0;
  constexpr int kRounds = 1000;
  for (int i = 0; i < kRounds; ++i) {
    auto [base, candidate] =
        Perplexities(random, 60, std::log1p(-effect), 0.05);
    shown += PairedDifference::Compare(base, candidate)->LowerBound(0.05) > 0;
  }
  EXPECT_NEAR(shown / double{kRounds}, 0.8, 0.08);
}

// Copies of an item in one group tell no more than the item does.
TEST(PairedDifferenceTest, GroupsAreOneObservationEach) {
  std::mt19937 random(5);
  auto [base, candidate] = Perplexities(random, 12, -0.02, 0.05);
  auto alone = PairedDifference::Compare(base, candidate).value();
  auto base4 = Scores("perplexity"), candidate4 = Scores("perplexity");
  for (int i = 0; i < 12; ++i) {
    for (int copy = 0; copy < 4; ++copy) {
      base4.add_scores(base.scores(i));
      base4.add_tokens(base.tokens(i));
      base4.add_groups(std::to_string(i));
      candidate4.add_scores(candidate.scores(i));
      candidate4.add_tokens(candidate.tokens(i));
      candidate4.add_groups(std::to_string(i));
    }
  }
  auto grouped = PairedDifference::Compare(base4, candidate4).value();
  EXPECT_NEAR(grouped.standard_error(), alone.standard_error(), 1e-12);
  EXPECT_NEAR(grouped.degrees_of_freedom(), alone.degrees_of_freedom(), 1e-9);
  EXPECT_LE(grouped.degrees_of_freedom(), 11);
}

TEST(PairedDifferenceTest, AccuracyIsInPoints) {
  auto base = Scores("acc"), candidate = Scores("acc");
  for (int i = 0; i < 100; ++i) {
    base.add_scores(i < 50);
    candidate.add_scores(i < 60);
    base.add_tokens(1);
    candidate.add_tokens(1);
  }
  base.set_value(0.5);
  candidate.set_value(0.6);
  auto d = PairedDifference::Compare(base, candidate).value();
  EXPECT_NEAR(d.gain(), 0.1, 1e-12);
  EXPECT_GT(d.LowerBound(0.05), 0);
  v1::Report report = d.MakeReport(0.05, 0.05, 0.01, "cpu");
  EXPECT_NEAR(report.difference(), 0.1, 1e-12);
  EXPECT_GT(report.confidence_interval(0), 0.03);
  EXPECT_LT(report.confidence_interval(1), 0.2);
}

TEST(PairedDifferenceTest, ReportHoldsTheMetricOfBothSides) {
  std::mt19937 random(6);
  auto [base, candidate] = Perplexities(random, 30, 0.04, 0.02);
  auto d = PairedDifference::Compare(base, candidate).value();
  v1::Report report = d.MakeReport(0.05, 0.05, 0.03, "cpu");
  EXPECT_EQ(report.base(), base.value());
  EXPECT_EQ(report.candidate(), candidate.value());
  EXPECT_NEAR(report.difference(), candidate.value() - base.value(), 1e-12);
  EXPECT_LT(report.confidence_interval(0), report.difference());
  EXPECT_GT(report.confidence_interval(1), report.difference());
  EXPECT_GT(report.difference(), 0) << "a larger perplexity is worse";
  EXPECT_LT(report.gain(), 0);
  EXPECT_EQ(report.items(), 30);
  EXPECT_EQ(report.device_class(), "cpu");
  EXPECT_FALSE(report.id().empty());
}

TEST(PairedDifferenceTest, BoundsAndDecisionsAgree) {
  std::mt19937 random(12);
  for (int round = 0; round < 50; ++round) {
    auto [base, candidate] = Perplexities(random, 5 + round, 0.01, 0.05);
    const auto d = PairedDifference::Compare(base, candidate).value();
    for (double alpha : {0.05, 1e-3, 1e-6}) {
      const double bound = d.LowerBound(alpha);
      EXPECT_TRUE(d.IsSurelyAtLeast(bound - 1e-6, alpha));
      EXPECT_FALSE(d.IsSurelyAtLeast(bound + 1e-6, alpha));
    }
  }
}

// With little skewness the correction for bounds is that for tests.
TEST(PairedDifferenceTest, BoundsAndTestsAgreeOnManyItems) {
  std::mt19937 random(14);
  for (int round = 0; round < 20; ++round) {
    auto [base, candidate] = Perplexities(random, 400, 0.01, 0.05);
    const auto d = PairedDifference::Compare(base, candidate).value();
    EXPECT_NEAR(d.PValueAbove(d.LowerBound(0.05)), 0.05, 0.005);
    EXPECT_NEAR(d.PValueBelow(d.UpperBound(0.05)), 0.05, 0.005);
  }
}

TEST(PairedDifferenceTest, OneItemDecidesNothing) {
  std::mt19937 random(7);
  auto [base, candidate] = Perplexities(random, 1, 0.5, 0.0);
  auto d = PairedDifference::Compare(base, candidate).value();
  EXPECT_EQ(d.PValueBelow(0), 1);
  EXPECT_EQ(d.PValueAbove(0), 1);
  EXPECT_LT(d.LowerBound(0.05), -1);
  EXPECT_GT(d.UpperBound(0.05), 0.9);
  v1::Report report = d.MakeReport(0.05, 0.05, 0.03, "cpu");
  EXPECT_TRUE(std::isfinite(report.confidence_interval(1)));
  EXPECT_LE(report.confidence_interval(0), report.confidence_interval(1));
}

TEST(PairedDifferenceTest, UnequalItemsAreNotPaired) {
  std::mt19937 random(8);
  auto [base, candidate] = Perplexities(random, 10, 0, 0.1);
  auto refuse = [&](const v1::SplitScores& other, const char* word) {
    auto d = PairedDifference::Compare(base, other);
    EXPECT_EQ(d.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(d.status().message()), HasSubstr(word));
  };
  v1::SplitScores other = candidate;
  other.set_suite_version(2);
  refuse(other, "version 2");
  other = candidate;
  other.set_tokens(3, 7);
  refuse(other, "cannot be paired");
  other = candidate;
  other.mutable_scores()->RemoveLast();
  refuse(other, "9 scores");
  other = candidate;
  other.set_scores(4, NAN);
  refuse(other, "item 4");
  other = candidate;
  other.set_tokens(2, 0);
  refuse(other, "item 2");
  refuse(Scores("perplexity"), "0 scores");
}

// A few large groups beside many small ones count for fewer than they are.
TEST(PairedDifferenceTest, UnequalGroupsHaveFewerDegreesOfFreedom) {
  std::mt19937 random(10);
  auto [base, candidate] = Perplexities(random, 40, 0, 0.05);
  const double alone =
      PairedDifference::Compare(base, candidate)->MinimumDetectableEffect(0.05);
  for (int i = 0; i < 40; ++i) {
    const std::string group = i < 30 ? "large" : std::to_string(i);
    base.add_groups(group);
    candidate.add_groups(group);
  }
  auto d = PairedDifference::Compare(base, candidate).value();
  EXPECT_LT(d.degrees_of_freedom(), 2);
  EXPECT_GT(d.MinimumDetectableEffect(0.05), 1.5 * alone);
}

// Most items gain a little and a few lose much, so that the mean is zero and
// samples often lack the few. Student's t alone errs nine times as often.
TEST(PairedDifferenceTest, SkewedDifferencesAreNotTakenForGains) {
  std::mt19937 random(11);
  std::exponential_distribution<double> loss(1);
  int shown = 0;
  constexpr int kRounds = 20'000;
  const v1::SplitScores base = NoPoints(48);
  v1::SplitScores candidate = base;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 48; ++i) candidate.set_scores(i, 1 - loss(random));
    shown += PairedDifference::Compare(base, candidate)->PValueAbove(0) < 1e-3;
  }
  EXPECT_LE(shown, 2 * 1e-3 * kRounds);
}

// The same guarded: a true loss at the margin passes in about alpha of cases.
TEST(PairedDifferenceTest, SkewedLossesAtTheMarginPassAtAlpha) {
  std::mt19937 random(13);
  std::exponential_distribution<double> loss(0.05);
  int passed = 0;
  constexpr int kRounds = 5'000;
  const v1::SplitScores base = NoPoints(48);
  v1::SplitScores candidate = base;
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < 48; ++i) {
      candidate.set_scores(i, -0.005 * loss(random));
    }
    passed +=
        PairedDifference::Compare(base, candidate)->IsSurelyAtLeast(-0.1, 0.05);
  }
  EXPECT_NEAR(passed / double{kRounds}, 0.046, 0.012);
}

// One item of many that got much worse is one event: at most about four
// (3.74 at 95 %) in the place of one, not any number.
TEST(PairedDifferenceTest, OneBadItemWidensTheBoundByAFewErrors) {
  const v1::SplitScores base = NoPoints(48);
  v1::SplitScores candidate = base;
  for (int i = 0; i < 48; ++i) {
    candidate.set_scores(i, i == 7 ? -1 : 0.001 * (i % 3 - 1));
  }
  const auto d = PairedDifference::Compare(base, candidate).value();
  const double errors = (d.gain() - d.LowerBound(0.05)) / d.standard_error();
  EXPECT_GT(errors, 3.5);
  EXPECT_LT(errors, 4.2);
}

TEST(PairedDifferenceTest, RoundedReportTellsOnlyWhatAuthorsAreTold) {
  std::mt19937 random(9);
  auto [base, candidate] = Perplexities(random, 30, -0.04, 0.02);
  v1::Report exact = PairedDifference::Compare(base, candidate)
                         ->MakeReport(0.05, 0.05, 0.03, "cpu");
  EXPECT_GE(exact.rounding_step(), 0.25 * 0.03 - 1e-12);
  v1::Report rounded = Rounded(exact);
  EXPECT_TRUE(rounded.rounded());
  EXPECT_EQ(rounded.base(), 0);
  EXPECT_EQ(rounded.candidate(), 0);
  EXPECT_EQ(rounded.gain(), 0);
  EXPECT_EQ(rounded.gain_lower(), 0);
  EXPECT_EQ(rounded.rounding_step(), 0) << "the step tells the error";
  EXPECT_EQ(rounded.confidence_interval_size(), 0);
  exact.set_told_gain(0.03);
  EXPECT_EQ(Rounded(exact).gain(), 0.03);
  EXPECT_EQ(Rounded(exact).told_gain(), 0.03);
}

}  // namespace
}  // namespace cairn
