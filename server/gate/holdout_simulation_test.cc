#include <gtest/gtest.h>

#include <cmath>

#include "server/gate/testing/campaign.h"

namespace cairn {
namespace {

using testing::Attack;
using testing::CampaignOptions;
using testing::GateRule;
using testing::RunCampaign;
using testing::ShownShare;

// tests/bench/vetting_report runs the same at full size.
constexpr int kCampaigns = 20;
constexpr CampaignOptions kSmall{.items = 100, .attempts = 300};

int CampaignsWithFalseAccept(Attack attack, GateRule rule) {
  int broken = 0;
  for (int i = 0; i < kCampaigns; ++i) {
    CampaignOptions options = kSmall;
    options.rule = rule;
    options.seed = static_cast<uint64_t>(1000 + i);
    broken += RunCampaign(attack, options).accepted > 0;
  }
  return broken;
}

// At a true rate of 5 % more than 4 of 20 have a probability below 0.3 %.
TEST(HoldoutSimulationTest, NoAttackGetsAFalseClaimAcceptedMoreOftenThanAlpha) {
  for (Attack attack :
       {Attack::kRandom, Attack::kBoosting, Attack::kMarginProbing,
        Attack::kClaimProbing, Attack::kHillClimbing}) {
    EXPECT_LE(CampaignsWithFalseAccept(attack, GateRule::kLedger), 4)
        << "attack " << static_cast<int>(attack);
  }
}

// The attacks are real: a gate that tests each attempt alone falls to all of
// them, nearly always.
TEST(HoldoutSimulationTest, TheSameAttacksBreakAGateWithoutALedger) {
  for (Attack attack :
       {Attack::kRandom, Attack::kBoosting, Attack::kMarginProbing,
        Attack::kClaimProbing, Attack::kHillClimbing}) {
    EXPECT_GE(CampaignsWithFalseAccept(attack, GateRule::kNaive),
              kCampaigns * 3 / 4)
        << "attack " << static_cast<int>(attack);
  }
}

TEST(HoldoutSimulationTest, OnePercentIsShownOnAThousandItemsToTheLast) {
  const CampaignOptions options{.items = 1000};
  EXPECT_GE(ShownShare(options, 0.01, 0, 0, 100), 0.98);
  EXPECT_GE(ShownShare(options, 0.01, 1999, 1999, 100), 0.90);
}

}  // namespace
}  // namespace cairn
