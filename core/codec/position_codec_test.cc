#include "core/codec/position_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "core/codec/gap_models.h"

namespace cairn {
namespace {

using Positions = std::vector<int64_t>;

// Codes all in blocks and holds what comes back against it; the coded bytes.
size_t RoundTrip(const Positions& all, int64_t limit) {
  PositionEncoder encoder;
  PositionDecoder decoder;
  int64_t previous = -1;
  size_t bytes = 0;
  for (size_t at = 0; at < all.size(); at += kPositionBlock) {
    const auto block = absl::MakeConstSpan(all).subspan(at, kPositionBlock);
    std::string coded;
    encoder.Encode(previous, block, coded);
    EXPECT_LE(coded.size(), kPositionBytesMax);
    Positions back(block.size());
    const absl::Status status =
        decoder.Decode(coded, previous, limit, absl::MakeSpan(back));
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_TRUE(back == Positions(block.begin(), block.end())) << at;
    previous = block.back();
    bytes += coded.size();
  }
  return bytes;
}

Positions AtRandom(int64_t elements, double density, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::bernoulli_distribution is_listed(density);
  Positions out;
  for (int64_t i = 0; i < elements; ++i) {
    if (is_listed(random)) out.push_back(i);
  }
  return out;
}

double EntropyBytes(int64_t elements, size_t count) {
  return PositionEntropyBits(static_cast<int64_t>(count), elements) / 8;
}

TEST(PositionCodecTest, IsCloseToTheEntropyOfRandomPositions) {
  constexpr int64_t kElements = 1 << 20;
  for (const double density :
       {0.0005, 0.001, 0.005, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5}) {
    const Positions all = AtRandom(kElements, density, 1);
    const double bound = EntropyBytes(kElements, all.size());
    const auto bytes = static_cast<double>(RoundTrip(all, kElements));
    EXPECT_LE(bytes, bound * 1.02) << density;
    EXPECT_GE(bytes, bound * 0.99) << density;
  }
}

TEST(PositionCodecTest, IsCloseToTheEntropyOfFewPositions) {
  // A quarter of a million elements, and what a byte a block costs.
  for (const double density : {0.0002, 0.001, 0.002, 0.005}) {
    const Positions all = AtRandom(1 << 18, density, 2);
    const double bound = EntropyBytes(1 << 18, all.size());
    EXPECT_LE(static_cast<double>(RoundTrip(all, 1 << 18)), bound * 1.03 + 2)
        << density;
  }
}

TEST(PositionCodecTest, GainsWherePositionsCluster) {
  // Whole rows of 512 are listed, one in 20.
  Positions all;
  std::mt19937_64 random(3);
  for (int64_t row = 0; row < 4096; ++row) {
    if (random() % 20 != 0) continue;
    for (int64_t i = 0; i < 512; ++i) all.push_back(row * 512 + i);
  }
  EXPECT_LT(static_cast<double>(RoundTrip(all, 4096 * 512)),
            EntropyBytes(4096 * 512, all.size()) / 20);
}

TEST(PositionCodecTest, KeepsExtremes) {
  Positions everything(20'000);
  std::iota(everything.begin(), everything.end(), int64_t{0});
  RoundTrip(everything, 20'000);
  RoundTrip({0}, 1);
  RoundTrip({kPositionLimit - 1}, kPositionLimit);
  RoundTrip({0, 1, kPositionLimit - 2, kPositionLimit - 1}, kPositionLimit);
  Positions wide;
  std::mt19937_64 random(4);
  for (int i = 0; i < 9000; ++i) {
    wide.push_back(static_cast<int64_t>(random() >> 2));
  }
  std::sort(wide.begin(), wide.end());
  wide.erase(std::unique(wide.begin(), wide.end()), wide.end());
  RoundTrip(wide, kPositionLimit);
  // One far away in a crowd: the nearest model has to skip, or another is held.
  Positions crowd(8000);
  std::iota(crowd.begin(), crowd.end(), int64_t{0});
  crowd.push_back(1 << 30);
  RoundTrip(crowd, kPositionLimit);
  for (int64_t i = 1; i < 700; ++i) RoundTrip(AtRandom(i, 0.3, 5), i);
}

TEST(PositionCodecTest, TablesOfModelsAreWhole) {
  for (int m = 1; m < kGapModels; ++m) {
    const GapModel& model = GapModelOf(m);
    uint32_t sum = 0;
    for (size_t t = 0; t < 256; ++t) {
      sum += model.frequencies[t];
      EXPECT_EQ(model.frequencies[t] > 0, t <= model.skip) << m << " " << t;
    }
    EXPECT_EQ(sum, kRansTotal) << m;
  }
}

TEST(PositionCodecTest, RefusesWhatIsCutOrLonger) {
  for (const double density : {0.002, 0.02, 0.4}) {
    const Positions all = AtRandom(10'000, density, 6);
    std::string coded;
    PositionEncoder().Encode(-1, all, coded);
    PositionDecoder decoder;
    Positions back(all.size());
    for (size_t cut = 0; cut < coded.size(); ++cut) {
      EXPECT_TRUE(absl::IsDataLoss(
          decoder.Decode(absl::string_view(coded).substr(0, cut), -1, 10'000,
                         absl::MakeSpan(back))))
          << cut;
    }
    EXPECT_TRUE(absl::IsDataLoss(
        decoder.Decode(coded + "x", -1, 10'000, absl::MakeSpan(back))));
    EXPECT_TRUE(absl::IsDataLoss(
        decoder.Decode(coded, -1, all.back(), absl::MakeSpan(back))));
    back.resize(all.size() - 1);
    EXPECT_TRUE(absl::IsDataLoss(
        decoder.Decode(coded, -1, 10'000, absl::MakeSpan(back))));
  }
}

TEST(PositionCodecTest, SurvivesRandomDamage) {
  std::mt19937_64 random(7);
  PositionDecoder decoder;
  for (int round = 0; round < 3000; ++round) {
    const double density = std::pow(2.0, -static_cast<double>(random() % 9));
    const Positions all = AtRandom(2'000, density / 2, random());
    if (all.empty()) continue;
    std::string coded;
    PositionEncoder().Encode(-1, all, coded);
    coded[random() % coded.size()] ^= static_cast<char>(1 << (random() % 8));
    Positions back(all.size());
    if (!decoder.Decode(coded, -1, 2'000, absl::MakeSpan(back)).ok()) continue;
    int64_t previous = -1;
    for (const int64_t position : back) {
      ASSERT_GT(position, previous);
      ASSERT_LT(position, 2'000);
      previous = position;
    }
  }
}

}  // namespace
}  // namespace cairn
