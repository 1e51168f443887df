#include "server/queue/bisection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using store::v1::TrialRecord;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Members = std::vector<std::string>;
using Passes = std::function<bool(const Members&)>;

struct Outcome {
  BisectionPlan plan;
  std::vector<TrialRecord> trials;
};

// Bisects to the end with a planted answer to every trial.
Outcome Bisect(const Members& all, const Passes& passes) {
  Outcome run;
  auto add = [&](const Members& members, bool repeats) {
    TrialRecord& trial = run.trials.emplace_back();
    for (const auto& m : members) trial.add_contributions(m);
    trial.set_repeats(repeats);
    trial.set_outcome(passes(members) ? TrialRecord::PASSED
                                      : TrialRecord::FAILED);
  };
  add(all, false);
  while (true) {
    std::vector<const TrialRecord*> trials;
    for (const auto& trial : run.trials) trials.push_back(&trial);
    run.plan = PlanBisection(trials);
    if (run.plan.next.empty()) return run;
    add(run.plan.next, run.plan.repeats);
    if (run.trials.size() > 200) return run;
  }
}

Passes Without(const std::set<std::string>& bad) {
  return [bad](const Members& members) {
    for (const auto& m : members) {
      if (bad.contains(m)) return false;
    }
    return true;
  };
}

TEST(BisectionTest, FindsOnePlantedCulprit) {
  Outcome run = Bisect({"a", "b", "c", "d"}, Without({"c"}));
  EXPECT_THAT(run.plan.keep, ElementsAre("a", "b", "d"));
  EXPECT_THAT(run.plan.culprits, ElementsAre("c"));
  EXPECT_THAT(run.plan.held, IsEmpty());
}

TEST(BisectionTest, FindsSeveralCulpritsInQueueOrder) {
  Outcome run = Bisect({"a", "b", "c", "d", "e"}, Without({"e", "a"}));
  EXPECT_THAT(run.plan.keep, ElementsAre("b", "c", "d"));
  EXPECT_THAT(run.plan.culprits, ElementsAre("a", "e"));
}

TEST(BisectionTest, KeepsNothingWhenAllFailAlone) {
  Outcome run = Bisect({"a", "b"}, Without({"a", "b"}));
  EXPECT_THAT(run.plan.keep, IsEmpty());
  EXPECT_THAT(run.plan.culprits, ElementsAre("a", "b"));
}

TEST(BisectionTest, HoldsTheLaterOfTwoThatPassOnlyApart) {
  auto passes = [](const Members& members) { return members.size() < 2; };
  Outcome run = Bisect({"a", "b"}, passes);
  EXPECT_THAT(run.plan.keep, ElementsAre("a"));
  EXPECT_THAT(run.plan.culprits, IsEmpty());
  EXPECT_THAT(run.plan.held, ElementsAre("b"));
}

TEST(BisectionTest, HoldsTheLaterHalfWhenAPairAcrossHalvesFailsTogether) {
  auto passes = [](const Members& members) {
    std::set<std::string> s(members.begin(), members.end());
    return !(s.contains("a") && s.contains("d"));
  };
  Outcome run = Bisect({"a", "b", "c", "d"}, passes);
  EXPECT_THAT(run.plan.keep, ElementsAre("a", "b"));
  EXPECT_THAT(run.plan.held, ElementsAre("c", "d"));
}

TEST(BisectionTest, RepeatsAFailingSingletonOnceBeforeItIsACulprit) {
  Outcome run = Bisect({"a"}, Without({"a"}));
  ASSERT_EQ(run.trials.size(), 2u);
  EXPECT_TRUE(run.trials[1].repeats());
  EXPECT_THAT(run.plan.culprits, ElementsAre("a"));
}

TEST(BisectionTest, ASingletonThatPassesItsRepetitionIsKept) {
  int calls = 0;
  Outcome run = Bisect({"a"}, [&](const Members&) { return ++calls > 1; });
  EXPECT_THAT(run.plan.keep, ElementsAre("a"));
}

// Whatever fails: the members are split without loss, what is kept passed as
// it is, and the number of trials is bounded.
TEST(BisectionTest, SettlesEveryRandomInteraction) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    Members all;
    for (unsigned i = 0; i < 1 + random() % 9; ++i) {
      all.push_back(absl::StrCat("m", i));
    }
    std::set<std::string> bad;
    std::set<std::pair<std::string, std::string>> pairs;
    for (unsigned i = 0; i < random() % 3; ++i) {
      bad.insert(all[random() % all.size()]);
      pairs.insert({all[random() % all.size()], all[random() % all.size()]});
    }
    auto passes = [&](const Members& members) {
      std::set<std::string> s(members.begin(), members.end());
      for (const auto& m : bad) {
        if (s.contains(m)) return false;
      }
      for (const auto& [a, b] : pairs) {
        if (a != b && s.contains(a) && s.contains(b)) return false;
      }
      return true;
    };
    if (passes(all)) continue;
    Outcome run = Bisect(all, passes);
    ASSERT_THAT(run.plan.next, IsEmpty());
    EXPECT_EQ(
        run.plan.keep.size() + run.plan.culprits.size() + run.plan.held.size(),
        all.size());
    EXPECT_EQ(std::set<std::string>(run.plan.culprits.begin(),
                                    run.plan.culprits.end()),
              bad);
    if (!run.plan.keep.empty()) {
      EXPECT_TRUE(passes(run.plan.keep));
    }
    EXPECT_LE(run.trials.size(), 4 * all.size() + 1);
  }
}

}  // namespace
}  // namespace cairn
