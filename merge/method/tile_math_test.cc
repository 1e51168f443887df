#include "merge/method/tile_math.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace cairn {
namespace {

std::vector<std::vector<float>> Rows(size_t rows, size_t count) {
  std::mt19937 random(8);
  std::normal_distribution<float> normal;
  std::vector<std::vector<float>> all(rows, std::vector<float>(count));
  for (auto& row : all) {
    for (float& value : row) value = normal(random);
  }
  return all;
}

TEST(TileMathTest, DotsOfAllPairsAreThoseOfEach) {
  for (const size_t count : {1u, 15u, 1000u, 4096u}) {
    for (size_t n = 1; n <= 6; ++n) {
      const auto rows = Rows(n + 1, count);
      std::vector<const float*> a;
      for (size_t k = 0; k < n; ++k) a.push_back(rows[k].data());
      for (const float* base :
           {static_cast<const float*>(nullptr), rows[n].data()}) {
        auto differences = rows;
        for (size_t k = 0; k < n && base != nullptr; ++k) {
          Subtract(a[k], base, differences[k].data(), count);
        }
        std::vector<double> got(n * (n + 1) / 2, 0.5);
        AddDots(a.data(), n, base, count, got.data());
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j <= i; ++j) {
            double want = 0.5;
            AddDot(differences[i].data(), differences[j].data(), count, want);
            ASSERT_EQ(got[i * (i + 1) / 2 + j], want)
                << count << " " << n << " " << i << " " << j;
          }
        }
      }
    }
  }
}

TEST(TileMathTest, TaskVectorsAreAddedInOrder) {
  constexpr size_t kCount = 611;
  for (size_t n = 1; n <= 6; ++n) {
    const auto rows = Rows(n + 1, kCount);
    const float* base = rows[n].data();
    std::vector<const float*> a;
    std::vector<float> weights;
    for (size_t k = 0; k < n; ++k) {
      a.push_back(rows[k].data());
      weights.push_back(0.3f + 0.1f * static_cast<float>(k));
    }
    std::vector<float> got(kCount);
    AddTaskVectors(a.data(), weights.data(), n, base, 0.7f, got.data(), kCount);
    std::vector<float> want(kCount, 0.0f), tau(kCount);
    for (size_t k = 0; k < n; ++k) {
      Subtract(a[k], base, tau.data(), kCount);
      AddScaledTo(weights[k], tau.data(), want.data(), kCount);
    }
    Scale(0.7f, want.data(), want.data(), kCount);
    Add(want.data(), base, want.data(), kCount);
    EXPECT_EQ(got, want) << n;
  }
}

// Few and many inputs go by different loops.
TEST(TileMathTest, AgreeingOfFewIsThatOfManyWithZeros) {
  constexpr size_t kCount = 300;
  for (size_t n = 2; n <= 4; ++n) {
    auto rows = Rows(n, kCount);
    rows.resize(6, std::vector<float>(kCount));
    const std::vector<float> base(kCount, 2.5f);
    std::vector<const float*> d;
    for (const auto& row : rows) d.push_back(row.data());
    const std::vector<float> weights = {0.3f, 0.4f, 0.5f, 0.6f, 7, 8};
    for (const bool is_normalized : {true, false}) {
      std::vector<float> few(kCount), many(kCount);
      AddAgreeingDeltas(d.data(), weights.data(), n, is_normalized, base.data(),
                        0.7f, few.data(), kCount);
      AddAgreeingDeltas(d.data(), weights.data(), 6, is_normalized, base.data(),
                        0.7f, many.data(), kCount);
      EXPECT_EQ(few, many);
      for (size_t i = 0; i < kCount; ++i) {
        float sum = 0, mixed = 0, divisor = 0;
        for (size_t k = 0; k < n; ++k) sum += d[k][i];
        for (size_t k = 0; k < n; ++k) {
          if ((d[k][i] > 0) != (sum >= 0)) continue;
          mixed += d[k][i];
          divisor += weights[k];
        }
        if (is_normalized) mixed /= divisor;
        volatile float scaled = 0.7f * mixed;
        ASSERT_EQ(few[i], scaled + base[i]) << n << " " << i;
      }
    }
  }
}

TEST(TileMathTest, AgreeingTaskVectorsAreThoseOfTheirDeltas) {
  constexpr size_t kCount = 611;
  for (size_t n = 1; n <= 6; ++n) {
    const auto rows = Rows(n + 1, kCount);
    const float* base = rows[n].data();
    std::vector<std::vector<float>> taus(n, std::vector<float>(kCount));
    std::vector<const float*> a, d;
    std::vector<float> weights;
    for (size_t k = 0; k < n; ++k) {
      weights.push_back(0.3f + 0.1f * static_cast<float>(k));
      Subtract(rows[k].data(), base, taus[k].data(), kCount);
      Scale(weights[k], taus[k].data(), taus[k].data(), kCount);
      a.push_back(rows[k].data());
      d.push_back(taus[k].data());
    }
    for (const bool is_normalized : {true, false}) {
      std::vector<float> got(kCount), want(kCount);
      AddAgreeingTaskVectors(a.data(), weights.data(), n, is_normalized, base,
                             0.7f, got.data(), kCount);
      AddAgreeingDeltas(d.data(), weights.data(), n, is_normalized, base, 0.7f,
                        want.data(), kCount);
      EXPECT_EQ(got, want) << n;
    }
  }
}

}  // namespace
}  // namespace cairn
