#include "core/update/effects.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

constexpr int64_t kRows = 13, kColumns = 45;

LowRankBlock Block(int64_t rank, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  LowRankBlock block{
      .left = std::vector<float>(static_cast<size_t>(kRows * rank)),
      .right = std::vector<float>(static_cast<size_t>(rank * kColumns)),
      .rows = kRows,
      .rank = rank,
      .columns = kColumns,
      .scale = 0.5f};
  for (float& value : block.left) value = normal(random);
  for (float& value : block.right) value = normal(random);
  return block;
}

std::vector<float> Changed(const Effect& effect) {
  std::vector<float> values(kRows * kColumns, 1.0f);
  EXPECT_EQ(effect->Apply(0, absl::MakeSpan(values)), absl::OkStatus());
  return values;
}

TEST(SummedEffectTest, OfLowRanksIsOneSumOverTheirRanksInOrder) {
  const LowRankBlock a = Block(3, 1), b = Block(5, 2);
  const Effect sum = MakeSummedEffect(
      {{MakeLowRankEffect({a}), 0.3f}, {MakeLowRankEffect({b}), -2.0f}});
  EXPECT_TRUE(sum->is_additive());
  EXPECT_EQ(sum->memory_bytes(), (kRows + kColumns) * (3 + 5) * 4);
  const std::vector<float> got = Changed(sum);
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      float want = 0;
      const auto add = [&](const LowRankBlock& block, float weight) {
        const float factor = weight * block.scale;
        for (int64_t k = 0; k < block.rank; ++k) {
          want = std::fmaf(
              factor * block.left[static_cast<size_t>(r * block.rank + k)],
              block.right[static_cast<size_t>(k * kColumns + c)], want);
        }
      };
      add(a, 0.3f);
      add(b, -2.0f);
      ASSERT_EQ(got[static_cast<size_t>(r * kColumns + c)], 1.0f + want);
    }
  }
  // Any range of it has the same bits.
  for (const int64_t first : {int64_t{1}, kColumns, kColumns * 3 + 7}) {
    std::vector<float> part(static_cast<size_t>(kRows * kColumns - first),
                            1.0f);
    ASSERT_EQ(sum->Apply(first, absl::MakeSpan(part)), absl::OkStatus());
    for (size_t i = 0; i < part.size(); ++i) {
      ASSERT_EQ(part[i], got[static_cast<size_t>(first) + i]);
    }
  }
}

TEST(SummedEffectTest, OfUnlikePartsAddsThemOneByOne) {
  const std::vector<float> added(kRows * kColumns, 0.25f);
  const LowRankBlock low = Block(3, 1);
  const Effect sum = MakeSummedEffect(
      {{MakeLowRankEffect({low}), 1.0f}, {MakeAddedEffect(added), 4.0f}});
  const std::vector<float> got = Changed(sum);
  const std::vector<float> alone = Changed(MakeLowRankEffect({low}));
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i], alone[i] + 1.0f);
  }
}

TEST(DeferredEffectTest, IsMadeWhenItIsLoadedAndOnceOnly) {
  int made = 0;
  const Effect effect = MakeDeferredEffect(
      [&made]() -> absl::StatusOr<Effect> {
        ++made;
        return MakeLowRankEffect({Block(3, 1)});
      },
      100);
  EXPECT_EQ(effect->memory_bytes(), 100);
  EXPECT_EQ(made, 0);
  const absl::StatusOr<Effect> loaded = effect->Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::vector<float> want = Changed(MakeLowRankEffect({Block(3, 1)}));
  EXPECT_EQ(Changed(*loaded), want);
  EXPECT_EQ(Changed(*loaded), want);
  EXPECT_EQ(made, 1);
  EXPECT_EQ(Changed(effect), want);
  EXPECT_EQ(made, 2);
}

TEST(DeferredEffectTest, SaysWhyItCannotBeMade) {
  const Effect effect =
      MakeDeferredEffect([] { return absl::DataLossError("short file"); }, 0);
  EXPECT_EQ(effect->Load().status(), absl::DataLossError("short file"));
  std::vector<float> values(4), sum(4);
  EXPECT_EQ(effect->Apply(0, absl::MakeSpan(values)),
            absl::DataLossError("short file"));
  EXPECT_EQ(effect->AddChange(0, values, 1, absl::MakeSpan(sum)),
            absl::DataLossError("short file"));
}

}  // namespace
}  // namespace cairn
