#include "server/vet/gate_stage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/flow/job_records.h"
#include "server/gate/contribution_view.h"
#include "server/gate/holdout.h"
#include "server/testing/pipeline_fixture.h"
#include "server/vet/suite_check_stage.h"

namespace cairn {
namespace {

using store::v1::SuiteRecord;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Pipeline;
using ::testing::SizeIs;

class GateStageTest : public ::testing::Test {
 protected:
  GateStageTest() {
    hub_.effect = [this](const std::set<std::string>& merged,
                         const std::string& suite) {
      return merged.empty() ? 0.0 : gain_[suite];
    };
  }
  void Settle() {
    SuiteCheckStage suites(hub_.store(), hub_.blobs());
    GateStage gate(hub_.store(), hub_.blobs());
    hub_.RunAll({&suites, &gate});
  }
  std::vector<std::string> Codes(const std::string& id) {
    std::vector<std::string> codes;
    const v1::Contribution contribution = hub_.Contribution(id);
    for (const auto& verdict : contribution.verdicts()) {
      for (const auto& reason : verdict.reasons()) {
        codes.push_back(v1::Reason::Code_Name(reason.code()));
      }
    }
    return codes;
  }

  Pipeline hub_;
  std::map<std::string, double> gain_;
};

TEST_F(GateStageTest, ShownClaimIsQueued) {
  hub_.AddSuite("prose", true);
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "QUEUED");
  ASSERT_THAT(hub_.Contribution("a").reports(), SizeIs(2));
  EXPECT_EQ(hub_.Contribution("a").reports(0).split(), "gate");
  EXPECT_EQ(hub_.Contribution("a").reports(0).device_class(), "cpu-test");
}

TEST_F(GateStageTest, HarmIsRejectedByItsSuite) {
  hub_.AddSuite("prose", true);
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}, {"prose", -0.09}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "REJECTED");
  EXPECT_THAT(Codes("a"), ElementsAre("SUITE_REGRESSED"));
}

TEST_F(GateStageTest, UnshownClaimIsRejected) {
  hub_.AddSuite("c");
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "REJECTED");
  EXPECT_THAT(Codes("a"), ElementsAre("CLAIM_NOT_SHOWN"));
}

TEST_F(GateStageTest, WithoutAClaimPeopleDecide) {
  hub_.AddSuite("c");
  hub_.AddContribution("a", v1::Contribution::SCREENED);
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_THAT(Codes("a"), ElementsAre("POLICY"));
}

TEST_F(GateStageTest, RequiredApprovalsSendEverythingToPeople) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_approvals(2); });
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
}

TEST_F(GateStageTest, ModelWithoutSuitesSaysSo) {
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_THAT(Codes("a"), ElementsAre("NO_SUITES"));
}

TEST_F(GateStageTest, EvaluationThatNeverEndsGoesToPeople) {
  hub_.AddSuite("c");
  hub_.failure = [](const v1::JobSpec&) {
    v1::JobFailure failure;
    failure.set_cause(v1::JobFailure::CRASH);
    failure.mutable_reason()->set_message("killed by signal 9");
    return std::optional(failure);
  };
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_THAT(Codes("a"), ElementsAre("EVALUATION_FAILED"));
  EXPECT_THAT(hub_.jobs_done, SizeIs(3));
  EXPECT_THAT(hub_.Contribution("a").verdicts(0).reasons(0).message(),
              HasSubstr("killed by signal 9"));
}

TEST_F(GateStageTest, BaseIsScoredOnceForAllPushes) {
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  hub_.AddContribution("b", v1::Contribution::SCREENED, {"c"});
  Settle();
  ASSERT_THAT(hub_.jobs_done, SizeIs(2));
  EXPECT_TRUE(hub_.jobs_done[0].evaluate().suites(0).score_base());
  EXPECT_FALSE(hub_.jobs_done[1].evaluate().suites(0).score_base());
  EXPECT_EQ(hub_.State("b"), "QUEUED");
}

TEST_F(GateStageTest, NewSuiteIsCheckedBeforePushesAreJudged) {
  hub_.AddSuite("c", false, v1::Suite::CHECKING);
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  GateStage gate(hub_.store(), hub_.blobs());
  EXPECT_EQ(gate.RunPass().value(), 0) << "waits for the suite";
  auto view = ViewContribution(
      hub_.store().Read(), hub_.jobs(),
      hub_.Get<store::v1::ContributionRecord>("models/m/contributions/a"),
      Figures::kRounded, "users/bob", hub_.clock().Now());
  EXPECT_THAT(view->waiting_for(), HasSubstr("suite c"));
  Settle();
  EXPECT_EQ(hub_.Get<SuiteRecord>("models/m/suites/c/1").suite().state(),
            v1::Suite::ACTIVE);
  EXPECT_EQ(hub_.State("a"), "QUEUED");
  EXPECT_THAT(hub_.jobs_done, SizeIs(2));
  EXPECT_EQ(hub_.jobs_done[0].evaluate().suites(0).splits_size(), 3);
}

TEST_F(GateStageTest, SuiteThatCannotBeEvaluatedIsRetiredWithItsReason) {
  hub_.AddSuite("c", false, v1::Suite::CHECKING);
  hub_.failure = [](const v1::JobSpec&) {
    v1::JobFailure failure;
    failure.set_cause(v1::JobFailure::INPUT);
    failure.mutable_reason()->set_message("token 300 is past the vocabulary");
    return std::optional(failure);
  };
  Settle();
  const auto suite = hub_.Get<SuiteRecord>("models/m/suites/c/1").suite();
  EXPECT_EQ(suite.state(), v1::Suite::RETIRED);
  EXPECT_THAT(suite.reasons(0).message(), HasSubstr("token 300"));
}

TEST_F(GateStageTest, AuthorSeesRoundedGainsReviewersExactFigures) {
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  const auto record =
      hub_.Get<store::v1::ContributionRecord>("models/m/contributions/a");
  auto view = [&](Figures figures) {
    return *ViewContribution(hub_.store().Read(), hub_.jobs(), record, figures,
                             "users/alice", hub_.clock().Now());
  };
  const v1::Contribution exact = view(Figures::kExact);
  const v1::Contribution rounded = view(Figures::kRounded);
  EXPECT_GT(exact.reports(0).base(), 0);
  EXPECT_FALSE(exact.reports(0).rounded());
  EXPECT_EQ(rounded.reports(0).base(), 0);
  EXPECT_TRUE(rounded.reports(0).rounded());
  EXPECT_EQ(rounded.attempts_left(), 20);
}

TEST_F(GateStageTest, AuthorIsToldTheGainOfAShownClaimAndNothingElse) {
  hub_.AddSuite("c");
  hub_.AddSuite("perl");
  gain_ = {{"c", 0.05}, {"perl", 0.02}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  const auto record =
      hub_.Get<store::v1::ContributionRecord>("models/m/contributions/a");
  auto view = [&](const std::string& viewer) {
    return *ViewContribution(hub_.store().Read(), hub_.jobs(), record,
                             Figures::kRounded, viewer, hub_.clock().Now());
  };
  const v1::Contribution mine = view("users/alice");
  EXPECT_TRUE(mine.reports(0).has_told_gain());
  EXPECT_LE(mine.reports(0).told_gain(), 0.05);
  EXPECT_GT(mine.reports(0).told_gain(), 0.02);
  EXPECT_FALSE(mine.reports(1).has_told_gain()) << "perl was not claimed";
  EXPECT_FALSE(view("users/bob").reports(0).has_told_gain());
}

TEST_F(GateStageTest, RefusedClaimTellsNothingButThat) {
  hub_.AddSuite("c");
  gain_ = {{"c", 0.0001}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "REJECTED");
  const auto record =
      hub_.Get<store::v1::ContributionRecord>("models/m/contributions/a");
  const auto view =
      *ViewContribution(hub_.store().Read(), hub_.jobs(), record,
                        Figures::kRounded, "users/alice", hub_.clock().Now());
  EXPECT_FALSE(view.reports(0).has_told_gain());
  EXPECT_EQ(view.reports(0).rounding_step(), 0);
  const auto& verdict = view.verdicts(view.verdicts_size() - 1);
  EXPECT_EQ(verdict.reasons(0).code(), v1::Reason::CLAIM_NOT_SHOWN);
  EXPECT_FALSE(verdict.reasons(0).has_measured());
}

TEST_F(GateStageTest, EveryJudgementIsChargedToTheSplitAndTheOrganisation) {
  ASSERT_OK(hub_.store().Transact([](HubTransaction& t) {
    store::v1::UserRecord alice;
    alice.mutable_user()->set_name("users/alice");
    alice.mutable_user()->set_organisation("lab");
    return t.Put(alice);
  }));
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  hub_.AddContribution("b", v1::Contribution::SCREENED, {"c"}, "users/bob");
  Settle();
  auto ledger = [&](const std::string& who) {
    return *FindHoldout(hub_.store().Read(),
                        hub_.Get<SuiteRecord>("models/m/suites/c/1").suite(),
                        who);
  };
  EXPECT_EQ(ledger("").attempts(), 2);
  EXPECT_EQ(ledger("organisations/lab").attempts(), 1);
  EXPECT_EQ(ledger("organisations/lab").shown(), 1);
  EXPECT_EQ(ledger("users/alice").attempts(), 0);
  EXPECT_EQ(ledger("users/bob").attempts(), 1);
}

TEST_F(GateStageTest, WhenTheSplitIsUsedUpPeopleDecide) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_gate_attempts(1); });
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "QUEUED");
  hub_.AddContribution("b", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("b"), "NEEDS_REVIEW");
  EXPECT_THAT(Codes("b"), ElementsAre("HOLDOUT_EXHAUSTED"));
  EXPECT_THAT(hub_.jobs_done, SizeIs(1)) << "b was not scored";
}

TEST_F(GateStageTest, LearntCanaryIsAnAnomaly) {
  hub_.AddSuite("c");
  hub_.AddSuite("planted");
  ASSERT_OK(hub_.store().Transact([](HubTransaction& t) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto suite,
                           t.Get<SuiteRecord>("models/m/suites/planted/1"));
    suite.mutable_suite()->set_canary(true);
    return t.Put(suite);
  }));
  gain_ = {{"c", 0.05}, {"planted", 0.4}};
  auto block = [&](const char* screen) {
    hub_.SetPolicy([&](v1::Policy& policy) {
      policy.clear_screens_block();
      policy.clear_screens_review();
      policy.add_screens_block(screen);
      policy.add_screens_review("canary");
    });
  };
  block("canary");
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("a"), "REJECTED");
  EXPECT_THAT(Codes("a"), ElementsAre("SCREEN_ANOMALY"));
  block("none");
  hub_.AddContribution("b", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("b"), "NEEDS_REVIEW");
  gain_["planted"] = -0.4;
  hub_.AddContribution("d", v1::Contribution::SCREENED, {"c"});
  Settle();
  EXPECT_EQ(hub_.State("d"), "QUEUED") << "losses on a canary mean nothing";
}

// The gate split of c has 48 items and its base has been scored.
class GateStageInPartsTest : public GateStageTest {
 protected:
  GateStageInPartsTest() {
    hub_.SetPolicy([](v1::Policy& policy) { policy.set_early_stop_items(48); });
    hub_.AddSuite("c");
    gain_ = {{"c", 0.05}};
    hub_.AddContribution("first", v1::Contribution::SCREENED, {"c"});
    Settle();
    hub_.jobs_done.clear();
  }
  void Push(const std::string& id, double gain) {
    gain_["c"] = gain;
    hub_.AddContribution(id, v1::Contribution::SCREENED, {"c"}, "users/" + id);
    Settle();
  }
  std::vector<int> ItemsAsked() const {
    std::vector<int> out;
    for (const v1::JobSpec& spec : hub_.jobs_done) {
      out.push_back(spec.evaluate().suites(0).items_size());
    }
    return out;
  }
};

TEST_F(GateStageInPartsTest, WhatIsClearIsDecidedOnAQuarter) {
  Push("good", 0.05);
  EXPECT_EQ(hub_.State("good"), "QUEUED");
  EXPECT_THAT(ItemsAsked(), ElementsAre(12));
  EXPECT_EQ(hub_.Contribution("good").reports(0).items(), 12);
  Push("bad", -0.3);
  EXPECT_EQ(hub_.State("bad"), "REJECTED");
  EXPECT_THAT(ItemsAsked(), ElementsAre(12, 12));
}

TEST_F(GateStageInPartsTest, WhatIsNotClearIsScoredToTheEnd) {
  Push("b", 0.001);
  EXPECT_EQ(hub_.State("b"), "QUEUED");
  EXPECT_THAT(ItemsAsked(), ElementsAre(12, 12, 24));
  std::set<int32_t> items;
  for (const v1::JobSpec& spec : hub_.jobs_done) {
    EXPECT_FALSE(spec.evaluate().suites(0).score_base());
    const auto& asked = spec.evaluate().suites(0).items();
    items.insert(asked.begin(), asked.end());
  }
  EXPECT_THAT(items, SizeIs(48));
  EXPECT_EQ(hub_.Contribution("b").reports(0).items(), 48);
  EXPECT_LT(hub_.Contribution("b").reports(0).claim_level(), 0.01);
}

TEST_F(GateStageInPartsTest, TimeTellsNothingOfWhenItWasDecided) {
  hub_.failure = [this](const v1::JobSpec&) {
    hub_.clock().Advance(absl::Seconds(10));
    return std::optional<v1::JobFailure>();
  };
  const absl::Time began = hub_.clock().Now();
  Push("early", 0.05);
  EXPECT_EQ(hub_.State("early"), "SCREENED") << "decided, and not told";
  EXPECT_THAT(hub_.Contribution("early").reports(), SizeIs(0));
  hub_.clock().Advance(absl::Seconds(49));
  Settle();
  EXPECT_EQ(hub_.State("early"), "SCREENED");
  hub_.clock().Advance(absl::Seconds(1));
  Settle();
  EXPECT_EQ(hub_.State("early"), "QUEUED");
  EXPECT_EQ(hub_.clock().Now() - began, absl::Seconds(60));

  const absl::Time again = hub_.clock().Now();
  Push("late", 0.001);
  EXPECT_THAT(ItemsAsked(), ElementsAre(12, 12, 12, 24));
  EXPECT_EQ(hub_.State("late"), "SCREENED") << "told after as long a time";
  hub_.clock().Advance(again + absl::Seconds(60) - hub_.clock().Now());
  Settle();
  EXPECT_EQ(hub_.State("late"), "QUEUED");
}

TEST_F(GateStageInPartsTest, WhatIsLateIsToldAtTheNextTimeAndCharged) {
  int jobs = 0;
  hub_.failure = [&](const v1::JobSpec&) {
    // The second part waits long for a worker.
    hub_.clock().Advance(absl::Seconds(jobs++ == 1 ? 100 : 10));
    return std::optional<v1::JobFailure>();
  };
  const absl::Time began = hub_.clock().Now();
  Push("late", 0.001);
  EXPECT_THAT(ItemsAsked(), ElementsAre(12, 12, 24));
  EXPECT_EQ(hub_.clock().Now() - began, absl::Seconds(120));
  // Periods of 60 seconds end at 60, 120, 180: this one is told at 180.
  EXPECT_EQ(hub_.State("late"), "SCREENED");
  hub_.clock().Advance(absl::Seconds(59));
  Settle();
  EXPECT_EQ(hub_.State("late"), "SCREENED");
  hub_.clock().Advance(absl::Seconds(1));
  Settle();
  EXPECT_EQ(hub_.State("late"), "QUEUED");
  const auto told = *FindHoldout(
      hub_.store().Read(), hub_.Get<SuiteRecord>("models/m/suites/c/1").suite(),
      "users/late");
  EXPECT_EQ(told.late(), 1);
  EXPECT_EQ(told.on_time(), 0);
  EXPECT_GT(told.late_nats(), 0);
  EXPECT_GT(ToldNats(told), told.late_nats());
}

TEST_F(GateStageInPartsTest, AnotherKindOfMachineBeginsAgainWithTheWhole) {
  // The first part was scored elsewhere, as it turns out at the last.
  hub_.failure = [this](const v1::JobSpec& spec) {
    if (spec.evaluate().suites(0).items_size() == 24) {
      EXPECT_OK(hub_.store().Transact([this](HubTransaction& t) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto record, t.Get<store::v1::ContributionRecord>(
                                                "models/m/contributions/b"));
        CAIRN_ASSIGN_OR_RETURN(auto job, t.Get<store::v1::JobRecord>(
                                             record.look_jobs(0)));
        CAIRN_ASSIGN_OR_RETURN(auto result, ReadJobResult(hub_.blobs(), job));
        result.set_device_class("another");
        CAIRN_ASSIGN_OR_RETURN(Digest blob,
                               hub_.blobs().Put(result.SerializeAsString()));
        job.set_result_sha256(blob.hex());
        return t.Put(job);
      }));
    }
    return std::optional<v1::JobFailure>();
  };
  Push("b", 0.001);
  EXPECT_THAT(ItemsAsked(), ElementsAre(12, 12, 24, 0));
  EXPECT_EQ(hub_.State("b"), "QUEUED");
  EXPECT_EQ(hub_.Contribution("b").reports(0).items(), 48);
}

TEST_F(GateStageInPartsTest, FewItemsAreScoredAtOnce) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_early_stop_items(49); });
  Push("b", 0.05);
  EXPECT_THAT(ItemsAsked(), ElementsAre(0));
}

TEST_F(GateStageTest, AnomalyOfAReviewedScreenGoesToPeople) {
  hub_.SetPolicy(
      [](v1::Policy& policy) { policy.add_screens_review("energy"); });
  hub_.AddSuite("c");
  gain_ = {{"c", 0.05}};
  hub_.AddContribution("a", v1::Contribution::SCREENED, {"c"});
  ASSERT_OK(hub_.store().Transact([](HubTransaction& t) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto record, t.Get<store::v1::ContributionRecord>(
                                            "models/m/contributions/a"));
    for (const char* screen : {"energy", "spectrum"}) {
      v1::Finding& finding = *record.mutable_contribution()->add_findings();
      finding.set_screen(screen);
      finding.set_anomaly(true);
      finding.set_evidence("ten times the usual norm");
    }
    return t.Put(record);
  }));
  Settle();
  EXPECT_EQ(hub_.State("a"), "NEEDS_REVIEW");
  EXPECT_THAT(Codes("a"), ElementsAre("SCREEN_ANOMALY"))
      << "spectrum is a label only";
}

}  // namespace
}  // namespace cairn
