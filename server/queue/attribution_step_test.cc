#include "server/queue/attribution_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "server/queue/batch_service.h"
#include "server/queue/batch_stage.h"
#include "server/testing/pipeline_fixture.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using testing::Pipeline;
using ::testing::SizeIs;

class AttributionStepTest : public ::testing::Test {
 protected:
  AttributionStepTest() {
    hub_.AddSuite("prose", /*is_protected=*/true);
    hub_.AddSuite("c");
    // Everything that is no placebo helps on c, unless it is useless.
    hub_.effect = [this](const std::set<std::string>& merged,
                         const std::string& suite) {
      double gain = 0;
      for (const std::string& name : merged) {
        if (name == "placebo" || useless_.contains(name)) continue;
        if (suite == "c") gain += 0.02;
      }
      return gain;
    };
  }

  void Start(const std::string& strategy = "average",
             const std::map<std::string, std::string>& parameters = {}) {
    v1::StartBatchRequest request;
    request.set_parent(testing::kModel);
    request.set_strategy(strategy);
    request.mutable_parameters()->insert(parameters.begin(), parameters.end());
    EXPECT_OK(BatchService(hub_.store(), hub_.jobs())
                  .Start({.user = "users/chief", .role = v1::User::MAINTAINER},
                         request)
                  .status());
  }
  void Settle() {
    BatchStage stage(hub_.store(), hub_.blobs(), hub_.publisher());
    hub_.RunAll({&stage});
  }

  Pipeline hub_;
  std::set<std::string> useless_;
};

TEST_F(AttributionStepTest, WhatEachMemberAddsIsMeasured) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_attribution("full"); });
  useless_ = {"b"};
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  const v1::Attribution attribution = hub_.LastBatch().attribution();
  EXPECT_EQ(attribution.note(), "");
  ASSERT_THAT(attribution.merge(), SizeIs(2));
  const auto on_c = [](const auto& effects) {
    return effects[effects[0].suite().ends_with("/c") ? 0 : 1];
  };
  EXPECT_NEAR(on_c(attribution.merge()).gain(), 0.02, 0.002);
  EXPECT_NEAR(on_c(attribution.placebo()).gain(), 0, 0.002);
  ASSERT_THAT(attribution.members(), SizeIs(2));
  EXPECT_NEAR(on_c(attribution.members(0).effects()).gain(), 0.02, 0.002);
  EXPECT_GT(on_c(attribution.members(0).effects()).standard_error(), 0);
  EXPECT_FALSE(attribution.members(0).adds_nothing());
  EXPECT_NEAR(on_c(attribution.members(1).effects()).gain(), 0, 0.002);
  EXPECT_TRUE(attribution.members(1).adds_nothing());
  // Everybody reads releases: there it is rounded.
  ASSERT_THAT(hub_.publisher().published, SizeIs(1));
  const v1::Attribution& told = hub_.publisher().published[0].attribution;
  ASSERT_THAT(told.members(), SizeIs(2));
  const auto effect = on_c(told.members(0).effects());
  EXPECT_EQ(effect.standard_error(), 0);
  const double steps = effect.gain() / effect.rounding_step();
  EXPECT_NEAR(steps, std::round(steps), 1e-9);
}

TEST_F(AttributionStepTest, AMemberAloneAddsWhatTheMergeDoes) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_attribution("full"); });
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  Start();
  Settle();
  const v1::Attribution attribution = hub_.LastBatch().attribution();
  ASSERT_THAT(attribution.members(), SizeIs(1));
  EXPECT_EQ(attribution.members(0).effects(0).gain(),
            attribution.merge(0).gain());
}

TEST_F(AttributionStepTest, AttributionIsBoundedAndCanBeOff) {
  for (const auto& [what, jobs] :
       std::map<std::string, int>{{"full", 1}, {"off", 0}}) {
    hub_.SetPolicy([&](v1::Policy& p) { p.set_attribution(what); });
    for (int i = 0; i <= kLeaveOneOutMax; ++i) {
      hub_.AddContribution(absl::StrCat(what, "-", i),
                           v1::Contribution::QUEUED, {"c"});
    }
    hub_.jobs_done.clear();
    Start();
    Settle();
    const v1::Batch batch = hub_.LastBatch();
    EXPECT_EQ(batch.state(), v1::Batch::PUBLISHED);
    EXPECT_EQ(std::count_if(hub_.jobs_done.begin(), hub_.jobs_done.end(),
                            [](const auto& spec) {
                              return spec.search().attribute() &&
                                     !spec.search().leave_one_out();
                            }),
              jobs);
    EXPECT_THAT(batch.attribution().members(), SizeIs(0));
    if (jobs == 0) continue;
    EXPECT_THAT(batch.attribution().placebo(), SizeIs(2));
    EXPECT_THAT(batch.attribution().note(), HasSubstr("at most 16"));
  }
}

TEST_F(AttributionStepTest, SaysWhichStrategyTakesNoMemberFewer) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_attribution("full"); });
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.AddContribution("b", v1::Contribution::QUEUED, {"c"});
  Start("multi_krum", {{"select", "2"}, {"lambda", "1"}});
  Settle();
  const v1::Attribution attribution = hub_.LastBatch().attribution();
  EXPECT_THAT(attribution.members(), SizeIs(0));
  EXPECT_THAT(attribution.placebo(), SizeIs(2));
  EXPECT_THAT(attribution.note(),
              HasSubstr("strategy multi_krum takes at least 2 updates"));
}

TEST_F(AttributionStepTest, AttributionThatFailsHoldsNothingUp) {
  hub_.SetPolicy([](v1::Policy& policy) { policy.set_attribution("full"); });
  hub_.AddContribution("a", v1::Contribution::QUEUED, {"c"});
  hub_.failure = [](const v1::JobSpec& spec) {
    std::optional<v1::JobFailure> out;
    if (spec.search().attribute()) {
      out.emplace().set_cause(v1::JobFailure::CRASH);
      out->mutable_reason()->set_message("killed by signal 9");
    }
    return out;
  };
  Start();
  Settle();
  EXPECT_EQ(hub_.State("a"), "RELEASED");
  EXPECT_THAT(hub_.LastBatch().attribution().note(),
              HasSubstr("killed by signal 9"));
}

}  // namespace
}  // namespace cairn
