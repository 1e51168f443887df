// Simulates authors, honest and not, against the gate and the weight screens
// and prints what came out as JSON. run.sh builds it; report.py draws it.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "server/gate/holdout.h"
#include "server/gate/testing/campaign.h"
#include "server/testing/pipeline_fixture.h"
#include "server/vet/screen.h"
#include "server/vet/weight_screen.h"
#include "tests/bench/vetting_report/planted_updates.h"

namespace cairn::bench {
namespace {

using Json = nlohmann::ordered_json;
using store::v1::FingerprintRecord;
using testing::Attack;
using testing::CampaignOptions;
using testing::CampaignResult;
using testing::GateAnswer;
using testing::GateRule;
using testing::SimulatedGate;

constexpr int kAcceptedBefore = 60;

const std::map<std::string, Attack>& Attacks() {
  static const auto* const kAttacks = new std::map<std::string, Attack>{
      {"random", Attack::kRandom},
      {"boosting", Attack::kBoosting},
      {"margin probing", Attack::kMarginProbing},
      {"claim probing", Attack::kClaimProbing},
      {"hill climbing", Attack::kHillClimbing}};
  return *kAttacks;
}

// Null campaigns of one attack.
Json RunNull(const std::string& name, GateRule rule, int campaigns) {
  Json out;
  out["attack"] = name;
  out["rule"] = rule == GateRule::kLedger ? "ledger" : "no ledger";
  CampaignOptions options;
  options.rule = rule;
  int broken = 0;
  double overfit = 0;
  std::vector<int> first;
  for (int i = 0; i < campaigns; ++i) {
    options.seed = static_cast<uint64_t>(7919 * (i + 1));
    const CampaignResult result = RunCampaign(Attacks().at(name), options);
    broken += result.accepted > 0;
    if (result.first_accept > 0) first.push_back(result.first_accept);
    overfit = std::max(overfit, result.best_told);
  }
  std::sort(first.begin(), first.end());
  out["campaigns"] = campaigns;
  out["attempts"] = options.attempts;
  out["items"] = options.items;
  out["with_false_accept"] = broken;
  out["first_false_accepts"] = first;
  out["largest_told_gain"] = overfit;
  return out;
}

Json RunPower(int trials) {
  Json out = Json::array();
  // Claims before, and by how many others.
  const std::vector<std::pair<int, int>> histories = {
      {0, 0}, {99, 20}, {1999, 200}};
  for (int items : {48, 200, 1000}) {
    for (const auto& [claims, organisations] : histories) {
      CampaignOptions options;
      options.items = items;
      Json line;
      line["items"] = items;
      line["claim"] = claims + 1;
      line["organisation"] = organisations + 1;
      Json points = Json::array();
      for (int step = 1; step <= 15; ++step) {
        const double gain = 0.002 * step;
        points.push_back({gain, testing::ShownShare(options, gain, claims,
                                                    organisations, trials)});
      }
      const double level = ClaimLevel(
          options.alpha,
          {.of_all = claims + 1, .organisation = organisations + 1}, {});
      line["power"] = points;
      line["level"] = level;
      line["detectable"] = DetectableEffect(
          options.noise / std::sqrt(items), items, level);
      out.push_back(line);
    }
  }
  return out;
}

// An author with a true gain pushes it again and again, a little changed, and
// keeps the best that it is told: what the figure promises beyond fresh data.
Json RunOverfit(int campaigns) {
  Json out = Json::array();
  for (GateRule rule : {GateRule::kLedger, GateRule::kNaive}) {
    double worst = -1, sum = 0;
    CampaignOptions options;
    options.rule = rule;
    constexpr double kTrue = 0.01;
    for (int i = 0; i < campaigns; ++i) {
      options.seed = static_cast<uint64_t>(104'729 * (i + 1));
      SimulatedGate gate(options);
      double best = 0;
      for (int attempt = 0; attempt < 200; ++attempt) {
        std::vector<double> gains = gate.Draw();
        for (double& gain : gains) gain -= std::log1p(-kTrue);
        best = std::max(best, gate.Judge(gains, SimulatedGate::Claim::kGain)
                                  .told_gain.value_or(0));
      }
      worst = std::max(worst, best - kTrue);
      sum += best - kTrue;
    }
    // What is told lies above the truth by no more than the reach of the test
    // at its level, but for alpha of all campaigns.
    const double error = options.noise / std::sqrt(options.items);
    const double promise =
        DetectableEffect(
            error, options.items,
            ClaimLevel(options.alpha, {.of_all = 200, .of_own = 200}, {})) -
        0.84 * error;
    out.push_back({{"rule", rule == GateRule::kLedger ? "ledger" : "no ledger"},
                   {"campaigns", campaigns},
                   {"attempts", 200},
                   {"true_gain", kTrue},
                   {"mean_overfit", sum / campaigns},
                   {"worst_overfit", worst},
                   {"promise", promise}});
  }
  return out;
}

// What the gate says of true effects, on suites of `items` items: the claimed,
// a protected one of margin 1 %, and a canary when there is one.
struct Verdicts {
  bool is_rejected = false;
  bool is_undecided = false;  // people decide
  bool is_caught_by_canary = false;
};
class PlantGate {
 public:
  PlantGate(int items, uint64_t seed) {
    options_.items = items;
    options_.seed = seed;
  }
  Verdicts Judge(const Effect& effect) {
    Verdicts out;
    ++options_.seed;
    SimulatedGate claimed(options_), guarded(options_), canary(options_);
    claimed.Age(20, 10);
    const GateAnswer guard = guarded.Judge(Shifted(guarded, effect.guarded),
                                           SimulatedGate::Claim::kNone);
    out.is_rejected = !claimed
                           .Judge(Shifted(claimed, effect.claimed),
                                  SimulatedGate::Claim::kGain)
                           .is_accepted ||
                      guard.is_regressed;
    out.is_undecided = guard.is_undecided;
    // Getting better is what a canary must not do: a sure loss, turned round.
    out.is_caught_by_canary = canary
                                  .Judge(Shifted(canary, -effect.triggered),
                                         SimulatedGate::Claim::kNone)
                                  .is_regressed;
    return out;
  }

 private:
  static std::vector<double> Shifted(SimulatedGate& gate, double effect) {
    std::vector<double> gains = gate.Draw();
    for (double& gain : gains) gain += effect;
    return gains;
  }
  CampaignOptions options_;
};

// Limits of screens are chosen with other seeds than the reported one.
Json RunPlants(int rounds, int items, uint64_t seed) {
  Planter planter(seed);
  std::vector<FingerprintRecord> accepted;
  for (int i = 0; i < kAcceptedBefore; ++i) {
    accepted.push_back(planter.Plant(Plant::kHonest).print);
  }
  PlantGate gate(items, seed + 1);
  const auto screens = AllWeightScreens();
  Json out = Json::array();
  for (Plant plant : kPlants) {
    std::map<std::string, int> anomalies;
    std::vector<double> scores;
    int blocked = 0, seen = 0, by_gate = 0, by_canary = 0;
    for (int i = 0; i < rounds; ++i) {
      const PlantedUpdate update = planter.Plant(plant);
      std::vector<FingerprintRecord> others = accepted;
      if (plant == Plant::kCopycat || plant == Plant::kColluding) {
        others.push_back(planter.victim().print);
      }
      double score = 0;
      bool kin = false, any = false;
      for (const auto& screen : screens) {
        const v1::Finding finding = screen->Inspect(
            {.mine = update.print, .accepted = accepted, .others = others});
        const std::string name(screen->name());
        anomalies[name] += finding.anomaly();
        any = any || finding.anomaly();
        kin = kin || (finding.anomaly() && name == "kinship");
        score = std::max(score, finding.score() / finding.limit());
      }
      const Verdicts verdicts = gate.Judge(update.effect);
      scores.push_back(score);
      by_gate += verdicts.is_rejected;
      by_canary += verdicts.is_caught_by_canary;
      blocked += verdicts.is_rejected || kin;
      seen += verdicts.is_rejected || verdicts.is_undecided || any;
    }
    std::sort(scores.begin(), scores.end());
    auto share = [&](int count) { return static_cast<double>(count) / rounds; };
    Json line;
    line["plant"] = NameOf(plant);
    line["updates"] = rounds;
    line["rejected"] = share(blocked);
    line["rejected_or_reviewed"] = share(seen);
    line["by_gate"] = share(by_gate);
    line["by_canary"] = share(by_canary);
    for (const auto& [name, count] : anomalies) line[name] = share(count);
    line["scores"] = scores;
    out.push_back(line);
  }
  return out;
}

// Honest updates of which one value is no finite number, as files, through the
// screen that every push meets before anything else is computed from it; and
// as many that are whole.
Json RunNonFinite(int rounds, uint64_t seed) {
  Planter planter(seed);
  testing::Pipeline hub;
  const HubSnapshot snapshot = hub.store().Read();
  const store::v1::ContributionRecord record;
  const v1::TensorManifest base;
  const v1::Policy policy;
  const auto screen = MakeFiniteScreen();
  const auto is_caught = [&](std::optional<float> spoilt) {
    const auto update = OpenUpdate(planter.HonestFiles(spoilt));
    CAIRN_CHECK(update.ok());
    const auto reasons = screen->Inspect({.record = record,
                                          .update = **update,
                                          .base = base,
                                          .policy = policy,
                                          .reader = snapshot,
                                          .blobs = hub.blobs()});
    CAIRN_CHECK(reasons.ok());
    return !reasons->empty();
  };
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), kInfinity,
                          -kInfinity};
  int caught = 0, honest = 0;
  for (int i = 0; i < rounds; ++i) {
    caught += is_caught(values[i % 3]);
    honest += is_caught(std::nullopt);
  }
  return {{"updates", rounds},
          {"caught", static_cast<double>(caught) / rounds},
          {"honest_caught", static_cast<double>(honest) / rounds}};
}

int Main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  const int campaigns = argc > 2 ? std::atoi(argv[2]) : 200;
  Json out;
  if (Attacks().contains(what)) {
    out.push_back(RunNull(what, GateRule::kLedger, campaigns));
    out.push_back(RunNull(what, GateRule::kNaive, std::max(campaigns / 20, 1)));
  } else if (what == "power") {
    out = RunPower(campaigns);
  } else if (what == "overfit") {
    out = RunOverfit(campaigns);
  } else if (what == "plants") {
    const uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 2026;
    out = RunPlants(campaigns, 1000, seed);
  } else if (what == "non-finite") {
    out = RunNonFinite(campaigns, 2026);
  } else {
    std::fprintf(stderr,
                 "usage: vetting_report random|boosting|'margin probing'|"
                 "'claim probing'|'hill climbing'|power|overfit|plants|"
                 "non-finite "
                 "[COUNT] [SEED]\n");
    return 2;
  }
  std::printf("%s\n", out.dump(1).c_str());
  return 0;
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) { return cairn::bench::Main(argc, argv); }
