#include "merge/peft/lora_combination.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/match.h"

namespace cairn {
namespace {

Matrix Filled(int64_t rows, int64_t columns, double phase) {
  Matrix out(rows, columns);
  for (size_t i = 0; i < out.values().size(); ++i) {
    const auto x = static_cast<double>(i);
    out.values()[i] = std::sin(1.7 * x * x + phase);
  }
  return out;
}

LoraPart Part(int64_t rank, double phase, double weight) {
  return {.left = Filled(7, rank, phase),
          .right = Filled(rank, 5, 2 * phase),
          .weight = weight,
          .scale = 0.5,
          .random_key = static_cast<uint64_t>(phase * 1000)};
}

Matrix ExactSum(const std::vector<LoraPart>& parts) {
  Matrix sum(7, 5);
  for (const LoraPart& part : parts) {
    AddProduct(part.weight * part.scale, part.left, part.right, sum);
  }
  return sum;
}

double Distance(const CombinedFactors& factors, const Matrix& wanted) {
  Matrix product = Multiply(factors.left, factors.right);
  AddProduct(-1, wanted, Matrix::Identity(wanted.columns()), product);
  return Norm(product);
}

TEST(LoraCombinationTest, KnowsPeftsNames) {
  const auto names = LoraCombination::Names();
  EXPECT_EQ(names.size(), 11u);
  for (const std::string& name : names) {
    const auto parsed = LoraCombination::Parse(name);
    ASSERT_TRUE(parsed.has_value()) << name;
    EXPECT_EQ(parsed->space == LoraCombination::Space::kProducts,
              absl::EndsWith(name, "svd"));
  }
  EXPECT_FALSE(LoraCombination::Parse("linear_svd").has_value());
  EXPECT_FALSE(LoraCombination::Parse("").has_value());
}

TEST(LoraCombinationTest, SideBySideIsTheSum) {
  const std::vector<LoraPart> parts = {Part(2, 0.3, 1), Part(1, 0.9, -0.5)};
  const Matrix exact = ExactSum(parts);
  const auto cat = CombineLoras(parts, {}, std::nullopt);
  EXPECT_EQ(cat->left.columns(), 3);
  EXPECT_LT(Distance(*cat, exact), 1e-12);
  EXPECT_NEAR(std::sqrt(cat->whole), Norm(exact), 1e-12);
  EXPECT_EQ(cat->lost, 0);
  // Cut to the largest rank of any, and what that costs.
  const auto svd =
      CombineLoras(parts, *LoraCombination::Parse("svd"), std::nullopt);
  EXPECT_EQ(svd->left.columns(), 2);
  EXPECT_NEAR(Distance(*svd, exact), std::sqrt(svd->lost), 1e-9);
  EXPECT_GT(svd->lost, 0);
}

TEST(LoraCombinationTest, FactorsByThemselvesAreARoughSum) {
  const std::vector<LoraPart> parts = {Part(2, 0.3, 1), Part(2, 0.9, -0.5)};
  const auto linear =
      CombineLoras(parts, *LoraCombination::Parse("linear"), std::nullopt);
  EXPECT_EQ(linear->left.columns(), 2);
  EXPECT_NEAR(Distance(*linear, ExactSum(parts)), std::sqrt(linear->lost),
              1e-9);
  EXPECT_GT(linear->lost, 0.01 * linear->whole);
  const auto one =
      CombineLoras({parts[1]}, *LoraCombination::Parse("linear"), std::nullopt);
  EXPECT_LT(Distance(*one, ExactSum({parts[1]})), 1e-12)
      << "the sign stands on one side";
  const auto status =
      CombineLoras({Part(2, 0.3, 1), Part(1, 0.9, 1)},
                   *LoraCombination::Parse("ties"), std::nullopt)
          .status();
  EXPECT_TRUE(absl::StrContains(status.message(), "ranks 2 and 1")) << status;
}

// By hand: of +3 and -1 against +2 the share of 2/3 keeps +3 and +2 ...
TEST(LoraCombinationTest, TiesElectsSignsBeforeWeights) {
  const auto row = [](std::vector<double> values, double weight) {
    LoraPart part;
    part.left = Matrix::Identity(1);
    part.right = Matrix(1, static_cast<int64_t>(values.size()));
    part.right.values() = std::move(values);
    part.weight = weight;
    return part;
  };
  LoraCombination ties = *LoraCombination::Parse("ties_svd");
  ties.density = 0.75;
  const std::vector<LoraPart> parts = {row({3, -1, 0.5, 2}, 2),
                                       row({-2, -4, 1, 0.1}, 1)};
  const auto merged = CombineLoras(parts, ties, 4);
  const Matrix product = Multiply(merged->left, merged->right);
  // trimmed: {3, -1, 0, 2} and {-2, -4, 1, 0}
  EXPECT_NEAR(product(0, 0), 6, 1e-9);
  EXPECT_NEAR(product(0, 1), (-2 - 4) / 2.0, 1e-9);
  EXPECT_NEAR(product(0, 2), 1, 1e-9);
  EXPECT_NEAR(product(0, 3), 4, 1e-9);
  ties.majority = LoraCombination::Majority::kFrequency;
  const auto counted =
      CombineLoras({row({1}, 1), row({1}, 1), row({-9}, 1)}, ties, 1);
  EXPECT_NEAR(Multiply(counted->left, counted->right)(0, 0), 0, 1e-9)
      << "three quarters of one element are none";
  ties.density = 1;
  const auto frequent =
      CombineLoras({row({1}, 1), row({1}, 1), row({-9}, 1)}, ties, 1);
  EXPECT_NEAR(Multiply(frequent->left, frequent->right)(0, 0), 1, 1e-9);
}

TEST(LoraCombinationTest, MasksAreTheSameEachTimeAndKeepTheMean) {
  LoraCombination dare = *LoraCombination::Parse("dare_linear_svd");
  dare.density = 0.5;
  LoraPart part{.left = Matrix(100, 1),
                .right = Matrix(1, 100),
                .weight = 1,
                .scale = 1,
                .random_key = 7};
  for (double& value : part.left.values()) value = 1;
  for (double& value : part.right.values()) value = 1;
  const auto once = CombineLoras({part}, dare, 100);
  const auto again = CombineLoras({part}, dare, 100);
  EXPECT_EQ(once->left.values(), again->left.values());
  const Matrix product = Multiply(once->left, once->right);
  double sum = 0;
  for (double value : product.values()) {
    EXPECT_TRUE(std::abs(value) < 1e-6 || std::abs(value - 2) < 1e-6) << value;
    sum += value;
  }
  EXPECT_NEAR(sum / 10'000, 1, 0.05);
  part.random_key = 8;
  EXPECT_NE(CombineLoras({part}, dare, 100)->left.values(),
            once->left.values());
}

}  // namespace
}  // namespace cairn
