#ifndef CAIRN_SERVER_GATE_TESTING_CAMPAIGN_H_
#define CAIRN_SERVER_GATE_TESTING_CAMPAIGN_H_

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

#include "cairn/store/v1/records.pb.h"
#include "cairn/v1/job.pb.h"
#include "server/gate/gate.h"

namespace cairn::testing {

// How an author who has no true gain to offer tries to be accepted.
enum class Attack {
  kRandom,         // something new each time
  kBoosting,       // adds up, signed by the answers, what was tried before
  kMarginProbing,  // the same, learning signs from losses at the margin
  kClaimProbing,   // the same, from true gains that are shown half of the time
  kHillClimbing,   // keeps a change when the answer gets better
};

// Which gate answers.
enum class GateRule {
  kLedger,  // as the hub decides
  kNaive,   // level alpha at every attempt, and the gain told in steps of its
            // standard error
};

// A gate split, and updates as what they change on its items: a true effect,
// the same for all, and chance. Chance is drawn independently for every new
// direction and is linear in the update, so that the true effect of a mixture
// of harmless directions is harmless, and only this split says otherwise.
struct CampaignOptions {
  int items = 1000;
  int tokens = 128;      // an item
  double noise = 0.035;  // standard deviation of an item's change of loss a
                         // token
  int attempts = 2000;
  double alpha = 0.05;
  double margin = 0.01;
  GateRule rule = GateRule::kLedger;
  uint64_t seed = 1;
};

struct GateAnswer {
  bool is_accepted = false;
  bool is_regressed = false;
  bool is_undecided = false;  // too few items: people decide
  std::optional<double> told_gain = std::nullopt;
};

// One split and its ledger for one organisation.
class SimulatedGate {
 public:
  explicit SimulatedGate(const CampaignOptions& options);

  enum class Claim { kNone, kGain };
  // `gains`: what the update gains on each item, in loss a token.
  GateAnswer Judge(const std::vector<double>& gains, Claim claim);
  // A new direction's chance effect on the items.
  std::vector<double> Draw();
  // Standard error of a gain on the split.
  double error() const;
  // Claims that others made before, so many organisations.
  void Age(int64_t claims, int64_t organisations);
  const store::v1::HoldoutRecord& told() const { return told_; }

 private:
  const CampaignOptions options_;
  std::mt19937_64 random_;
  v1::SplitScores base_;
  v1::SplitScores candidate_;
  store::v1::HoldoutRecord sum_;
  store::v1::HoldoutRecord told_;
};

struct CampaignResult {
  int attempts = 0;
  int accepted = 0;      // of claims without a true gain
  int first_accept = 0;  // the attempt, from 1; 0: none
  double best_told = 0;  // largest gain told; the truth is 0
};
CampaignResult RunCampaign(Attack attack, const CampaignOptions& options);

// Share of `trials` in which a claim with this true gain is shown, by an
// organisation that asks for the first time after `claims_before` others, made
// by `organisations_before`.
double ShownShare(const CampaignOptions& options, double gain,
                  int64_t claims_before, int64_t organisations_before,
                  int trials);

}  // namespace cairn::testing

#endif  // CAIRN_SERVER_GATE_TESTING_CAMPAIGN_H_
