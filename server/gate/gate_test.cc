#include "server/gate/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// A suite on which the candidate gains `gain` with the standard error `error`
// (both on the log scale), over 48 items.
GateSuite Suite(const std::string& id, double gain, double error) {
  v1::SplitScores base, candidate;
  for (v1::SplitScores* s : {&base, &candidate}) {
    s->set_suite("models/m/suites/" + id);
    s->set_metric("perplexity");
    s->set_value(10);
  }
  constexpr int kItems = 48;
  // +-r in turn has the standard error r / sqrt(n - 1).
  const double r = error * std::sqrt(kItems - 1.0);
  for (int i = 0; i < kItems; ++i) {
    base.add_scores(-2);
    candidate.add_scores(-2 + gain + (i % 2 ? r : -r));
    base.add_tokens(1);
    candidate.add_tokens(1);
  }
  return {.name = "models/m/suites/" + id,
          .is_protected = false,
          .is_claimed = false,
          .margin = 0.10,
          .gain_unit = 0.01,
          .difference = *PairedDifference::Compare(base, candidate)};
}
GateSuite Protected(GateSuite suite) {
  suite.is_protected = true;
  suite.margin = 0.03;
  return suite;
}
GateSuite Claimed(GateSuite suite) {
  suite.is_claimed = true;
  return suite;
}

std::vector<std::string> Codes(const GateDecision& decision) {
  std::vector<std::string> codes;
  for (const auto& reason : decision.reasons) {
    codes.push_back(v1::Reason::Code_Name(reason.code()));
  }
  return codes;
}

TEST(GateTest, ShownClaimWithoutHarmPasses) {
  auto d = DecideContribution(
      {Protected(Suite("prose", 0.003, 0.004)), Claimed(Suite("c", 0.05, 0.01)),
       Suite("perl", -0.04, 0.01)},
      0.05);
  EXPECT_EQ(d.decision, v1::Verdict::PASS);
  EXPECT_THAT(d.reasons, IsEmpty());
}

TEST(GateTest, ProtectedLossBeyondItsMarginFailsByNameAndNumber) {
  auto d = DecideContribution(
      {Protected(Suite("prose", -0.09, 0.005)),
       Claimed(Suite("python", 0.03, 0.004)), Suite("c", 0.0, 0.01)},
      0.05);
  EXPECT_EQ(d.decision, v1::Verdict::FAIL);
  ASSERT_THAT(Codes(d), ElementsAre("SUITE_REGRESSED"));
  EXPECT_EQ(d.reasons[0].suite(), "models/m/suites/prose");
  EXPECT_NEAR(d.reasons[0].measured(), std::expm1(0.09), 1e-9);
  EXPECT_EQ(d.reasons[0].limit(), 0.03);
}

TEST(GateTest, UnshownClaimFails) {
  auto d = DecideContribution({Claimed(Suite("c", -0.008, 0.002))}, 0.05);
  EXPECT_EQ(d.decision, v1::Verdict::FAIL);
  EXPECT_THAT(Codes(d), ElementsAre("CLAIM_NOT_SHOWN"));
}

TEST(GateTest, TooNoisySuiteGoesToPeopleWithItsDetectableEffect) {
  auto d = DecideContribution(
      {Protected(Suite("prose", -0.01, 0.05)), Claimed(Suite("c", 0.05, 0.01))},
      0.05);
  EXPECT_EQ(d.decision, v1::Verdict::REVIEW);
  ASSERT_THAT(Codes(d), ElementsAre("INCONCLUSIVE"));
  EXPECT_GT(d.reasons[0].measured(), 0.05);
}

TEST(GateTest, UnprotectedSuitesHaveTheWideMargin) {
  EXPECT_EQ(DecideContribution({Suite("c", -0.06, 0.005)}, 0.05).decision,
            v1::Verdict::PASS);
  EXPECT_EQ(DecideContribution({Suite("c", -0.20, 0.005)}, 0.05).decision,
            v1::Verdict::FAIL);
}

// p = 0.03 for each of two claims: alone it would be enough, together it is
// not. One strong claim does not carry a weak one.
TEST(GateTest, SeveralClaimsAreHeldToHolm) {
  const double weak = 1.93 * 0.01;  // t(47): one-sided p = 0.030
  EXPECT_EQ(
      DecideContribution({Claimed(Suite("a", weak, 0.01))}, 0.05).decision,
      v1::Verdict::PASS);
  EXPECT_THAT(Codes(DecideContribution({Claimed(Suite("a", weak, 0.01)),
                                        Claimed(Suite("b", weak, 0.01))},
                                       0.05)),
              ElementsAre("CLAIM_NOT_SHOWN", "CLAIM_NOT_SHOWN"));
  EXPECT_EQ(DecideContribution({Claimed(Suite("a", weak, 0.01)),
                                Claimed(Suite("b", 0.1, 0.01))},
                               0.05)
                .decision,
            v1::Verdict::PASS)
      << "after the strong one is rejected the weak one stands alone";
}

TEST(GateTest, CandidateThatKeepsItsPromisePasses) {
  // The claimed domain gains; two others lose within their margins.
  auto d = DecideCandidate(
      {Protected(Suite("prose", 0.023, 0.005)),
       Claimed(Suite("c", 0.077, 0.011)), Suite("perl", -0.047, 0.008),
       Suite("python", -0.031, 0.006)},
      0.05);
  EXPECT_EQ(d.decision, v1::Verdict::PASS);
}

TEST(GateTest, CandidateWithoutGainFails) {
  auto d = DecideCandidate(
      {Protected(Suite("prose", 0.0, 0.002)), Suite("c", 0.0, 0.01)}, 0.05);
  EXPECT_THAT(Codes(d), ElementsAre("NO_GAIN"));
}

TEST(GateTest, CandidateWithoutClaimsIsHeldToTheMeanOverAll) {
  EXPECT_EQ(
      DecideCandidate({Suite("a", 0.05, 0.005), Suite("b", -0.01, 0.005)}, 0.05)
          .decision,
      v1::Verdict::PASS);
  EXPECT_EQ(
      DecideCandidate({Suite("a", 0.01, 0.005), Suite("b", -0.01, 0.005)}, 0.05)
          .decision,
      v1::Verdict::FAIL);
}

TEST(GateTest, CandidateMustNotLoseAClaimedSuite) {
  auto d = DecideCandidate(
      {Claimed(Suite("a", 0.10, 0.005)), Claimed(Suite("b", -0.03, 0.005))},
      0.05);
  EXPECT_THAT(Codes(d), ElementsAre("SUITE_REGRESSED"));
  EXPECT_EQ(d.reasons[0].suite(), "models/m/suites/b");
}

TEST(GateTest, CandidateWithAnUndecidedProtectedSuiteFails) {
  auto d = DecideCandidate({Protected(Suite("prose", -0.01, 0.05)),
                            Claimed(Suite("c", 0.05, 0.005))},
                           0.05);
  EXPECT_THAT(Codes(d), ElementsAre("INCONCLUSIVE"));
}

TEST(GateTest, RevertFailsForSureLossesOfProtectedSuitesOnly) {
  EXPECT_EQ(DecideHarm({Suite("c", -0.5, 0.01),
                        Protected(Suite("prose", -0.02, 0.05))},
                       0.05)
                .decision,
            v1::Verdict::PASS);
  EXPECT_EQ(DecideHarm({Protected(Suite("prose", -0.2, 0.01))}, 0.05).decision,
            v1::Verdict::FAIL);
}

TEST(GateTest, AuditStopsWhatSurelyLostMoreThanItsMargin) {
  const auto decide = [](double gain, double error) {
    return DecideHarm({Protected(Suite("prose", gain, error))}, 0.05).decision;
  };
  EXPECT_EQ(decide(-0.02, 0.001), v1::Verdict::PASS);
  EXPECT_EQ(decide(-0.04, 0.1), v1::Verdict::PASS) << "as likely less";
  EXPECT_EQ(decide(-0.04, 0.001), v1::Verdict::FAIL);
}

TEST(GateTest, SearchExcludesProtectedLossBeyondTheMargin) {
  v1::SearchPoint point = MakeSearchPoint(
      0.4, {Protected(Suite("prose", -0.05, 0.01)), Suite("c", 0.09, 0.01)});
  EXPECT_TRUE(point.excluded());
  point = MakeSearchPoint(
      0.4, {Protected(Suite("prose", -0.01, 0.01)), Suite("c", 0.09, 0.01)});
  EXPECT_FALSE(point.excluded());
  EXPECT_NEAR(point.mean_gain(),
              (-std::expm1(0.01) - std::expm1(-0.09)) / 2 / 0.01, 1e-6);
}

TEST(GateTest, MarginsComeFromTheSuiteOrThePolicy) {
  v1::Policy policy;
  policy.mutable_margin()->set_perplexity(0.02);
  policy.mutable_margin()->set_accuracy(0.015);
  policy.set_unprotected_margin(0.12);
  store::v1::SuiteRecord suite;
  suite.mutable_suite()->set_metric("acc");
  suite.mutable_suite()->set_margin(0.5);
  EXPECT_EQ(MarginOf(suite, policy), 0.12);
  suite.mutable_suite()->set_protected_(true);
  EXPECT_EQ(MarginOf(suite, policy), 0.015);
  suite.mutable_suite()->set_metric("perplexity");
  EXPECT_EQ(MarginOf(suite, policy), 0.02);
  suite.set_own_margin(true);
  EXPECT_EQ(MarginOf(suite, policy), 0.5);
}

TEST(GateTest, AuthorsSeeNoFiguresOfTheGate) {
  auto d = DecideContribution({Protected(Suite("prose", -0.09, 0.005))}, 0.05);
  v1::Verdict verdict;
  verdict.set_stage("gate");
  *verdict.add_reasons() = d.reasons[0];
  EXPECT_FALSE(WithoutFigures(verdict).reasons(0).has_measured());
  EXPECT_EQ(WithoutFigures(verdict).reasons(0).suite(), d.reasons[0].suite());
  verdict.set_stage("screen");
  EXPECT_TRUE(WithoutFigures(verdict).reasons(0).has_measured());
}

TEST(GateTest, AuthorsAreNotToldOfAnItem) {
  v1::Verdict verdict;
  v1::Reason& reason = *verdict.add_reasons();
  reason.set_message("gate.jsonl:3: item secret-7: not finite");
  for (const auto code :
       {v1::Reason::EVALUATION_FAILED, v1::Reason::NON_FINITE}) {
    reason.set_code(code);
    for (const char* stage : {"gate", "batch"}) {
      verdict.set_stage(stage);
      const v1::Reason told = WithoutFigures(verdict).reasons(0);
      EXPECT_EQ(told.code(), code);
      EXPECT_THAT(told.message(), Not(HasSubstr("secret-7")));
    }
  }
  verdict.set_stage("screen");
  EXPECT_THAT(WithoutFigures(verdict).reasons(0).message(),
              HasSubstr("secret-7"));
}

}  // namespace
}  // namespace cairn
