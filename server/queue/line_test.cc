#include "server/queue/line.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

using store::v1::LineStep;
using store::v1::ReleaseRecord;

LineStep Step(std::initializer_list<const char*> members, const char* release) {
  LineStep step;
  for (const char* member : members) step.add_contributions(member);
  step.set_strategy("average");
  step.set_release(release);
  step.set_digest("sha256:0");
  return step;
}

ReleaseRecord Line(std::initializer_list<LineStep> steps) {
  ReleaseRecord release;
  release.mutable_release()->set_name("v9");
  release.set_root_release("v1");
  release.set_origin(ReleaseRecord::MERGED);
  for (const LineStep& step : steps) *release.add_line() = step;
  return release;
}

TEST(LineTest, TakingTheLastOneOutGoesBackToTheReleaseBefore) {
  auto plan =
      PlanWithout(Line({Step({"a"}, "v2"), Step({"b"}, "v3")}), "b").value();
  EXPECT_EQ(plan.start, "v2");
  EXPECT_EQ(plan.reached.size(), 1u);
  EXPECT_TRUE(plan.remaining.empty());
}

TEST(LineTest, TakingTheFirstOneOutRepeatsWhatCameAfter) {
  auto plan =
      PlanWithout(Line({Step({"a"}, "v2"), Step({"b"}, "v3")}), "a").value();
  EXPECT_EQ(plan.start, "v1");
  ASSERT_EQ(plan.remaining.size(), 1u);
  EXPECT_EQ(plan.remaining[0].contributions(0), "b");
  EXPECT_EQ(plan.remaining[0].release(), "");
  EXPECT_EQ(plan.remaining[0].digest(), "");
}

TEST(LineTest, OneOfABatchLeavesTheOthersOfItsBatch) {
  auto plan = PlanWithout(Line({Step({"a", "b", "c"}, "v2")}), "b").value();
  EXPECT_EQ(plan.start, "v1");
  ASSERT_EQ(plan.remaining.size(), 1u);
  EXPECT_EQ(plan.remaining[0].contributions_size(), 2);
}

TEST(LineTest, StepsNeverPublishedAreRepeatedToo) {
  // After an earlier revert: the first step was merged again on the way only.
  auto line = Line({Step({"a"}, ""), Step({"b"}, "v5"), Step({"c"}, "v6")});
  auto plan = PlanWithout(line, "b").value();
  EXPECT_EQ(plan.start, "v1");
  ASSERT_EQ(plan.remaining.size(), 2u);
  EXPECT_EQ(plan.remaining[0].contributions(0), "a");
  EXPECT_EQ(plan.remaining[1].contributions(0), "c");
}

TEST(LineTest, WhatIsNotInTheLineCannotBeTakenOut) {
  auto plan = PlanWithout(Line({Step({"a"}, "v2")}), "z");
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(LineTest, ReplayRepeatsTheLastMerge) {
  auto plan = PlanReplay(Line({Step({"a"}, "v2"), Step({"b"}, "v3")})).value();
  EXPECT_EQ(plan.start, "v2");
  ASSERT_EQ(plan.remaining.size(), 1u);
  EXPECT_EQ(plan.remaining[0].contributions(0), "b");
}

TEST(LineTest, ReplayOfAnImportedReleaseIsRefused) {
  ReleaseRecord imported = Line({});
  imported.set_origin(ReleaseRecord::IMPORTED);
  EXPECT_EQ(PlanReplay(imported).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(LineTest, ReplayOfARevertToTheFirstReleaseHasNothingToMerge) {
  ReleaseRecord reverted = Line({});
  reverted.set_origin(ReleaseRecord::REVERTED);
  auto plan = PlanReplay(reverted).value();
  EXPECT_EQ(plan.start, "v1");
  EXPECT_TRUE(plan.remaining.empty());
}

}  // namespace
}  // namespace cairn
