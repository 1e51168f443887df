#include "server/vet/weight_screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace cairn {
namespace {

using store::v1::FingerprintRecord;
using ::testing::HasSubstr;

// Three low-rank layers; sizes vary from update to update as recipes do.
class WeightScreenTest : public ::testing::Test {
 protected:
  FingerprintRecord Honest() {
    std::normal_distribution<double> normal(0, 1);
    FingerprintRecord out;
    out.set_contribution("models/m/contributions/c1");
    const double size = 0.1 * std::exp(0.3 * normal(random_));
    for (const char* tensor : {"q", "k", "v"}) {
      auto& layer = *out.add_layers();
      layer.set_tensor(tensor);
      layer.set_ratio(size * std::exp(0.1 * normal(random_)));
      layer.set_norm(50 * layer.ratio());
      layer.set_rank(8);
      layer.set_leading_share(0.35 + 0.03 * normal(random_));
      layer.set_effective_rank(5 + 0.3 * normal(random_));
    }
    for (int i = 0; i < 1024; ++i) {
      out.add_sketch(static_cast<float>(normal(random_)));
    }
    out.set_samples(10'000);
    out.set_density(1);
    out.set_positive_share(0.5 + 0.005 * normal(random_));
    return out;
  }
  std::vector<FingerprintRecord> History(int count) {
    std::vector<FingerprintRecord> out;
    for (int i = 0; i < count; ++i) out.push_back(Honest());
    return out;
  }
  v1::Finding Look(std::unique_ptr<WeightScreen> screen,
                   const FingerprintRecord& mine) {
    const v1::Finding finding =
        screen->Inspect({.mine = mine, .accepted = past_, .others = past_});
    EXPECT_EQ(absl::string_view(finding.screen()), screen->name());
    EXPECT_FALSE(finding.evidence().empty());
    EXPECT_EQ(finding.anomaly(), finding.score() >= finding.limit());
    return finding;
  }

  std::mt19937 random_{1};
  std::vector<FingerprintRecord> past_ = History(40);
};

TEST_F(WeightScreenTest, HonestUpdatesAreRarelyAnomalies) {
  int anomalies = 0;
  for (int i = 0; i < 200; ++i) {
    const FingerprintRecord mine = Honest();
    bool any = false;
    for (const auto& screen : AllWeightScreens()) {
      any |= screen->Inspect({.mine = mine, .accepted = past_, .others = past_})
                 .anomaly();
    }
    anomalies += any;
  }
  EXPECT_LE(anomalies, 4);
}

TEST_F(WeightScreenTest, TenTimesTheSizeIsAnAnomalyOfEnergy) {
  FingerprintRecord mine = Honest();
  for (auto& layer : *mine.mutable_layers()) {
    layer.set_norm(10 * layer.norm());
    layer.set_ratio(10 * layer.ratio());
  }
  EXPECT_TRUE(Look(MakeEnergyScreen(), mine).anomaly());
}

TEST_F(WeightScreenTest, OneLayerWithNearlyAllEnergyIsNamed) {
  FingerprintRecord mine = Honest();
  for (int i : {0, 2}) {
    mine.mutable_layers(i)->set_norm(0.02 * mine.layers(i).norm());
    mine.mutable_layers(i)->set_ratio(0.02 * mine.layers(i).ratio());
  }
  past_.clear();
  std::normal_distribution<double> normal(0, 1);
  for (int i = 0; i < 40; ++i) {
    FingerprintRecord one = Honest();
    // Usually k is the least of the three.
    one.mutable_layers(1)->set_norm(0.1 * one.layers(1).norm());
    one.mutable_layers(1)->set_ratio(0.1 * one.layers(1).ratio());
    past_.push_back(one);
  }
  const v1::Finding finding = Look(MakeEnergyScreen(), mine);
  EXPECT_TRUE(finding.anomaly());
  EXPECT_EQ(finding.tensor(), "k");
}

TEST_F(WeightScreenTest, YoungModelHasNothingToCompareWith) {
  past_ = History(3);
  FingerprintRecord mine = Honest();
  mine.mutable_layers(0)->set_norm(1e6);
  EXPECT_FALSE(Look(MakeEnergyScreen(), mine).anomaly());
  EXPECT_THAT(Look(MakeEnergyScreen(), mine).evidence(), HasSubstr("only 3"));
  EXPECT_FALSE(Look(MakeSpectrumScreen(), mine).anomaly());
}

TEST_F(WeightScreenTest, OneDirectionIsAnAnomalyOfTheSpectrum) {
  FingerprintRecord mine = Honest();
  for (auto& layer : *mine.mutable_layers()) {
    layer.set_leading_share(0.97);
    layer.set_effective_rank(1.2);
  }
  EXPECT_TRUE(Look(MakeSpectrumScreen(), mine).anomaly());
}

TEST_F(WeightScreenTest, CopyAndItsNegativeAreKin) {
  for (float scale : {0.5f, -2.0f}) {
    FingerprintRecord mine = past_[7];
    for (float& value : *mine.mutable_sketch()) value *= scale;
    const v1::Finding finding = Look(MakeKinshipScreen(), mine);
    EXPECT_TRUE(finding.anomaly());
    EXPECT_NEAR(finding.score(), 1, 1e-6);
  }
  EXPECT_LT(Look(MakeKinshipScreen(), Honest()).score(), 0.3);
}

TEST_F(WeightScreenTest, PartsOfOneUpdateAreColluding) {
  const FingerprintRecord noise = Honest();
  FingerprintRecord mine = past_[7];
  for (int i = 0; i < mine.sketch_size(); ++i) {
    mine.set_sketch(i, mine.sketch(i) + 1.5f * noise.sketch(i));
  }
  const v1::Finding finding = Look(MakeCollusionScreen(), mine);
  EXPECT_TRUE(finding.anomaly());
  EXPECT_FALSE(Look(MakeKinshipScreen(), mine).anomaly()) << "no copy";
  EXPECT_FALSE(Look(MakeCollusionScreen(), Honest()).anomaly());
}

TEST_F(WeightScreenTest, AnEditOfFewWeightsIsUnlikeAllAccepted) {
  FingerprintRecord mine = Honest();
  mine.set_density(1e-5);
  EXPECT_TRUE(Look(MakeSparsityScreen(), mine).anomaly());
  for (auto& one : past_) one.set_density(1e-4);
  EXPECT_FALSE(Look(MakeSparsityScreen(), mine).anomaly());
  past_ = History(3);
  EXPECT_FALSE(Look(MakeSparsityScreen(), mine).anomaly()) << "too few";
}

TEST_F(WeightScreenTest, ChangesOfOneSignAreAnAnomaly) {
  FingerprintRecord mine = Honest();
  mine.set_positive_share(0.98);
  EXPECT_TRUE(Look(MakeSignsScreen(), mine).anomaly());
  mine.set_samples(10);
  EXPECT_FALSE(Look(MakeSignsScreen(), mine).anomaly()) << "too few to tell";
}

TEST_F(WeightScreenTest, FewRowsOfTheVocabularyAreAnAnomaly) {
  FingerprintRecord mine = Honest();
  EXPECT_FALSE(Look(MakeVocabularyScreen(), mine).anomaly());
  mine.set_vocabulary_rows(2);
  mine.set_vocabulary_concentration(1);
  EXPECT_TRUE(Look(MakeVocabularyScreen(), mine).anomaly());
  mine.set_vocabulary_rows(900);
  mine.set_vocabulary_concentration(0.1);
  EXPECT_FALSE(Look(MakeVocabularyScreen(), mine).anomaly());
}

TEST_F(WeightScreenTest, RowsThatStandOutAreHeldAgainstTheAccepted) {
  std::normal_distribution<double> normal(0, 1);
  for (FingerprintRecord& one : past_) {
    one.set_vocabulary_rows(900);
    one.set_vocabulary_concentration(0.05 * std::exp(0.2 * normal(random_)));
    one.set_vocabulary_gap(2 * std::exp(0.2 * normal(random_)));
  }
  FingerprintRecord mine = past_[3];
  EXPECT_FALSE(Look(MakeVocabularyScreen(), mine).anomaly());
  mine.set_vocabulary_gap(20);
  EXPECT_TRUE(Look(MakeVocabularyScreen(), mine).anomaly());
  mine.set_vocabulary_gap(0.5);
  EXPECT_FALSE(Look(MakeVocabularyScreen(), mine).anomaly()) << "one-sided";
}

}  // namespace
}  // namespace cairn
