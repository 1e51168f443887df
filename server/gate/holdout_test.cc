#include "server/gate/holdout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "storage/memory/memory_metadata_store.h"

namespace cairn {
namespace {

using store::v1::HoldoutRecord;
using store::v1::SuiteRecord;
using ::testing::HasSubstr;

constexpr char kSuite[] = "models/m/suites/s";

// Adds one answer: 0 nothing, 1 inconclusive, 2 regressed, 3 shown.
void Hear(HoldoutRecord& told, int answer) {
  told.set_attempts(told.attempts() + 1);
  if (answer == 1) told.set_inconclusive(told.inconclusive() + 1);
  if (answer == 2) told.set_regressed(told.regressed() + 1);
  if (answer == 3) {
    told.set_shown(told.shown() + 1);
    told.set_gain_nats(told.gain_nats() + std::log(2.0));
  }
}

// A gain of `gain` on the log scale, with the standard error `error`.
GateSuite Suite(double gain, double error) {
  v1::SplitScores base, candidate;
  for (v1::SplitScores* s : {&base, &candidate}) {
    s->set_suite(kSuite);
    s->set_metric("perplexity");
    s->set_value(10);
  }
  const double r = error * std::sqrt(199.0);
  for (int i = 0; i < 200; ++i) {
    base.add_scores(-2);
    candidate.add_scores(-2 + gain + (i % 2 ? r : -r));
    base.add_tokens(1);
    candidate.add_tokens(1);
  }
  return {.name = kSuite,
          .is_claimed = true,
          .margin = 0.01,
          .difference = *PairedDifference::Compare(base, candidate)};
}

v1::Report ReportOf(const GateSuite& suite) {
  return suite.difference.MakeReport(0.05, 0.05, suite.margin, "cpu");
}

// Levels of all histories of one length add up to at most the share of alpha:
// the bound over everything that an adaptive author might come to ask.
TEST(HoldoutTest, CodeOfAnswersIsComplete) {
  constexpr int kLength = 5;
  double sum = 0;
  for (int history = 0; history < 1024; ++history) {
    HoldoutRecord told;
    for (int at = 0, rest = history; at < kLength; ++at, rest /= 4) {
      Hear(told, rest % 4);
    }
    sum += std::exp(-ToldNats(told) +
                    static_cast<double>(told.shown()) * std::log(2.0));
  }
  EXPECT_LE(sum, 1 + 1e-9);
  EXPECT_GT(sum, 0.8) << "little of alpha is wasted";
}

// The same of what is said of merges and of when parts are told.
TEST(HoldoutTest, CodeOfMergesAndOfTimesIsComplete) {
  constexpr int kLength = 6;
  double merges = 0, times = 0;
  for (int history = 0; history < 1 << kLength; ++history) {
    HoldoutRecord merged, timed;
    int failed = 0;
    for (int at = 0; at < kLength; ++at) {
      const bool is_usual = (history >> at & 1) == 0;
      failed += is_usual ? 0 : 1;
      if (is_usual) {
        merged.set_merges_passed(merged.merges_passed() + 1);
        timed.set_on_time(timed.on_time() + 1);
      } else {
        merged.set_merges_failed(merged.merges_failed() + 1);
        timed.set_late(timed.late() + 1);
      }
    }
    // What a failed merge said is one of twelve answers.
    merges += std::exp(-ToldNats(merged)) * std::pow(12, failed);
    times += std::exp(-ToldNats(timed));
  }
  for (const double sum : {merges, times}) {
    EXPECT_LE(sum, 1 + 1e-9);
    EXPECT_GT(sum, 0.8) << "little of alpha is wasted";
  }
}

TEST(HoldoutTest, MergesThatAlwaysPassCostAtMostAFactorOfTwo) {
  HoldoutRecord told;
  told.set_merges_passed(1000);
  EXPECT_LE(ToldNats(told), std::log(2.0));
}

TEST(HoldoutTest, LevelsOfAnEpochAddUpToAtMostAlphaHoweverManyClaim) {
  for (size_t organisations : {1, 7, 2000}) {
    HoldoutRecord sum;
    std::vector<HoldoutRecord> told(organisations);
    const GateSuite suite = Suite(0, 0.01);
    double levels = 0;
    for (size_t i = 0; i < 2000; ++i) {
      HoldoutRecord& mine = told[i % organisations];
      // What was told costs more still; here nothing was.
      levels += ClaimLevel(0.05, NextClaim(sum, mine), {});
      CountAttempt(suite, sum, mine);
    }
    EXPECT_LE(levels, 0.05);
    EXPECT_GT(levels, 0.024);
    EXPECT_EQ(sum.claimants(), organisations);
  }
}

TEST(HoldoutTest, ClaimsOfOneCostOthersLessThanItself) {
  HoldoutRecord sum, spammer, newcomer;
  const GateSuite suite = Suite(0, 0.01);
  for (int i = 0; i < 1000; ++i) CountAttempt(suite, sum, spammer);
  const double level = ClaimLevel(0.05, NextClaim(sum, newcomer), newcomer);
  EXPECT_GT(level, 1e-3) << "the second organisation's first claim";
  EXPECT_LT(ClaimLevel(0.05, NextClaim(sum, spammer), spammer), 1e-6);
}

TEST(HoldoutTest, WhatClaimsNothingTakesNoShare) {
  HoldoutRecord sum, told;
  GateSuite suite = Suite(0, 0.01);
  suite.is_claimed = false;
  const double before = ClaimLevel(0.05, NextClaim(sum, told), {});
  for (int i = 0; i < 9; ++i) CountAttempt(suite, sum, told);
  EXPECT_EQ(sum.attempts(), 9);
  EXPECT_EQ(ClaimLevel(0.05, NextClaim(sum, told), {}), before);
}

// Records from before claims were counted: everything judged was a claim.
TEST(HoldoutTest, OldRecordsAreReadAsClaims) {
  HoldoutRecord sum, told;
  sum.set_attempts(100);
  const ClaimOrder next = NextClaim(sum, told);
  EXPECT_EQ(next.of_all, 101);
  EXPECT_EQ(next.organisation, 101);
  CountAttempt(Suite(0, 0.01), sum, told);
  EXPECT_EQ(NextClaim(sum, told).of_all, 102);
}

TEST(HoldoutTest, AnswersCostTheOneWhoHeardThem) {
  HoldoutRecord silent, probing;
  for (int i = 0; i < 100; ++i) {
    Hear(silent, 0);
    Hear(probing, i % 2 == 0 ? 2 : 0);
  }
  EXPECT_NEAR(ToldNats(silent), std::log(2.0), 0.02);
  EXPECT_GT(ToldNats(probing), 60) << "about a bit an answer";
}

TEST(HoldoutTest, GainIsToldOnlyWithAShownClaimAndAStepAboveTheLast) {
  HoldoutRecord told;
  const GateSuite good = Suite(0.05, 0.001);
  v1::Report report = ReportOf(good);
  Tell(good, {}, told, report);
  ASSERT_TRUE(report.has_told_gain());
  EXPECT_LE(report.told_gain(), report.gain());
  EXPECT_GT(report.told_gain(), report.gain() - report.rounding_step());
  const double nats = told.gain_nats();
  EXPECT_GT(nats, 1);

  v1::Report again = ReportOf(good);
  Tell(good, {}, told, again);
  EXPECT_FALSE(again.has_told_gain()) << "not above the best";
  EXPECT_EQ(told.shown(), 2);
  EXPECT_NEAR(told.gain_nats() - nats, std::log(2.0), 1e-9);

  const GateDecision refused = DecideContribution({Suite(0.0, 0.001)}, 0.05);
  v1::Report nothing = ReportOf(Suite(0.0, 0.001));
  Tell(Suite(0.0, 0.001), refused, told, nothing);
  EXPECT_FALSE(nothing.has_told_gain());
  EXPECT_EQ(told.shown(), 2);
}

class HoldoutStoreTest : public ::testing::Test {
 protected:
  HoldoutStoreTest() {
    record_.mutable_suite()->set_name(kSuite);
    record_.mutable_suite()->set_version(1);
    record_.mutable_suite()->set_items(200);
  }
  void Charge(const std::string& organisation, const GateDecision& decision) {
    std::vector<GateSuite> suites = {Suite(0.05, 0.001)};
    std::vector<v1::Report> reports = {ReportOf(suites[0])};
    ASSERT_TRUE(store_
                    .Transact([&](HubTransaction& t) {
                      return ChargeHoldout(t, organisation, {record_}, suites,
                                           decision, reports);
                    })
                    .ok());
  }
  double Level(const std::string& organisation) {
    std::vector<GateSuite> suites = {Suite(0.05, 0.001)};
    policy_.set_alpha(0.05);
    EXPECT_TRUE(
        SetClaimLevels(store_.Read(), policy_, organisation, {record_}, suites)
            .ok());
    return suites[0].claim_level;
  }

  MemoryMetadataStore metadata_;
  FakeClock clock_;
  HubStore store_{metadata_, clock_};
  SuiteRecord record_;
  v1::Policy policy_;
};

TEST_F(HoldoutStoreTest, AttemptsAreSharedButAnswersAreNot) {
  const double before = Level("users/bob");
  Charge("organisations/lab", {});
  EXPECT_NEAR(Level("users/bob"), before * std::pow(2, -1.5), 1e-9)
      << "the second claim, by the second organisation";
  EXPECT_LT(Level("organisations/lab"), before / 4);
}

TEST_F(HoldoutStoreTest, NextEpochHasTheWholeBudgetAgain) {
  const double before = Level("users/bob");
  for (int i = 0; i < 5; ++i) Charge("users/bob", {});
  EXPECT_LT(Level("users/bob"), before / 10);
  record_.mutable_suite()->set_epoch(2);
  EXPECT_EQ(Level("users/bob"), before);
}

TEST_F(HoldoutStoreTest, UsedUpSplitShowsNoMoreClaims) {
  policy_.set_gate_attempts(1);
  Charge("users/bob", {});
  EXPECT_EQ(Level("users/ada"), 0);
}

TEST_F(HoldoutStoreTest, BudgetAndDetectableEffectAreShown) {
  v1::Policy policy;
  policy.set_alpha(0.05);
  policy.set_gate_attempts(3);
  Charge("users/bob", {});
  auto suite = ViewSuite(store_.Read(), record_.suite(), policy).value();
  EXPECT_EQ(suite.epoch(), 1);
  EXPECT_EQ(suite.attempts_used(), 1);
  EXPECT_EQ(suite.attempts_left(), 2);
  EXPECT_GT(suite.minimum_detectable_effect(), 0.002);
  EXPECT_LT(suite.minimum_detectable_effect(), 0.006);
}

TEST_F(HoldoutStoreTest, UsedUpSplitIsNamedWithWhatToDo) {
  record_.mutable_suite()->set_state(v1::Suite::CHECKING);
  for (auto state : {v1::Suite::CHECKING, v1::Suite::ACTIVE}) {
    record_.mutable_suite()->set_state(state);
    ASSERT_TRUE(
        store_.Transact([&](HubTransaction& t) { return t.Put(record_); })
            .ok());
  }
  v1::Policy policy;
  policy.set_gate_attempts(1);
  EXPECT_TRUE(CheckHoldoutLeft(store_.Read(), "models/m", policy).ok());
  Charge("users/bob", {});
  const absl::Status left = CheckHoldoutLeft(store_.Read(), "models/m", policy);
  EXPECT_EQ(GetReason(left)->code, "HOLDOUT_EXHAUSTED");
  EXPECT_THAT(std::string(left.message()), HasSubstr("suite s"));
  EXPECT_THAT(std::string(left.message()), HasSubstr("suite add"));
}

TEST_F(HoldoutStoreTest, UserWithoutOrganisationStandsAlone) {
  store::v1::UserRecord user;
  user.mutable_user()->set_name("users/ada");
  user.mutable_user()->set_organisation("lab");
  ASSERT_TRUE(
      store_.Transact([&](HubTransaction& t) { return t.Put(user); }).ok());
  EXPECT_EQ(OrganisationOf(store_.Read(), "users/ada").value(),
            "organisations/lab");
  EXPECT_EQ(OrganisationOf(store_.Read(), "users/bob").value(), "users/bob");
}

}  // namespace
}  // namespace cairn
