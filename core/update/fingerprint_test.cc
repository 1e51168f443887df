#include "core/update/fingerprint.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

namespace cairn {
namespace {

constexpr int64_t kRows = 96;
constexpr int64_t kColumns = 80;
constexpr int64_t kRank = 4;
using Matrix = std::vector<float>;

Matrix Random(std::mt19937& random, int64_t count) {
  std::normal_distribution<float> normal(0, 1);
  Matrix out(static_cast<size_t>(count));
  for (float& value : out) value = normal(random);
  return out;
}

// One tensor's change, told as factors or as replacement values over a base
// of ones.
class OneTensor : public Update {
 public:
  OneTensor(std::string name, LoraFactors factors, v1::Encoding::Kind encoding)
      : factors_(std::move(factors)), encoding_(encoding) {
    touched_.push_back({.name = std::move(name),
                        .shape = {kRows, kColumns},
                        .dtype = std::nullopt});
    if (encoding == v1::Encoding::DENSE) touched_[0].dtype = DType::kF32;
  }
  v1::Encoding::Kind encoding() const override { return encoding_; }
  Form form() const override {
    return encoding_ == v1::Encoding::LORA ? Form::kAdapter
                                           : Form::kReplacement;
  }
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return ""; }
  absl::Status CheckFinite() const override { return absl::OkStatus(); }
  absl::StatusOr<double> DeltaNorm(absl::string_view,
                                   const ByteSource&) const override {
    return absl::UnimplementedError("not read");
  }
  absl::StatusOr<LoraFactors> ReadFactors(absl::string_view) const override {
    return factors_;
  }
  int64_t FactorBytes(absl::string_view) const override {
    return encoding_ == v1::Encoding::LORA ? 1024 : 0;
  }
  absl::Status ReadTuned(absl::string_view, const ByteSource&, int64_t first,
                         absl::Span<char> bytes) const override {
    std::vector<float> values(bytes.size() / 4);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(1 + At(first + static_cast<int64_t>(i)));
    }
    FromFloats(DType::kF32, values, bytes);
    return absl::OkStatus();
  }

 private:
  double At(int64_t element) const {
    const int64_t row = element / kColumns, column = element % kColumns;
    double sum = 0;
    for (int64_t k = 0; k < kRank; ++k) {
      sum += factors_.b[static_cast<size_t>(row * kRank + k)] *
             factors_.a[static_cast<size_t>(k * kColumns + column)];
    }
    return factors_.scale * sum;
  }
  LoraFactors factors_;
  v1::Encoding::Kind encoding_;
  std::vector<TouchedTensor> touched_;
};

LoraFactors Factors(std::mt19937& random) {
  return {.rank = kRank,
          .in = kColumns,
          .out = kRows,
          .a = Random(random, kRank * kColumns),
          .b = Random(random, kRank * kRows),
          .scale = 0.1};
}

Fingerprint Take(const Update& update) {
  auto print = TakeFingerprint(
      update, [](const TouchedTensor&) -> absl::StatusOr<BaseTensor> {
        std::string bytes(kRows * kColumns * 4, '\0');
        FromFloats(DType::kF32, Matrix(kRows * kColumns, 1.0f),
                   absl::MakeSpan(bytes));
        return BaseTensor{.dtype = DType::kF32,
                          .bytes = MakeMemorySource(std::move(bytes))};
      });
  EXPECT_TRUE(print.ok()) << print.status();
  return *std::move(print);
}

constexpr char kProjection[] = "model.layers.0.mlp.up_proj.weight";

TEST(FingerprintTest, EncodingsOfOneChangeHaveOneSketchAndNorm) {
  std::mt19937 random(1);
  const LoraFactors factors = Factors(random);
  const auto lora = Take(OneTensor(kProjection, factors, v1::Encoding::LORA));
  const auto dense = Take(OneTensor(kProjection, factors, v1::Encoding::DENSE));
  EXPECT_NEAR(Cosine(lora.sketch, dense.sketch), 1, 1e-4);
  EXPECT_NEAR(lora.layers[0].norm, dense.layers[0].norm, 1e-3);
  EXPECT_NEAR(lora.layers[0].base_norm, std::sqrt(kRows * kColumns), 1e-6);
  EXPECT_EQ(lora.layers[0].rank, kRank);
  EXPECT_EQ(dense.layers[0].rank, 0);
  EXPECT_NEAR(
      static_cast<double>(dense.positive) / static_cast<double>(dense.changed),
      0.5, 0.05);
}

TEST(FingerprintTest, CosineTellsCopiesFromStrangers) {
  std::mt19937 random(2);
  LoraFactors factors = Factors(random);
  const auto mine = Take(OneTensor(kProjection, factors, v1::Encoding::LORA));
  LoraFactors noisy = factors;
  for (float& value : noisy.b) value += 0.05f * Random(random, 1)[0];
  noisy.scale = -0.7;
  EXPECT_LT(
      Cosine(mine.sketch,
             Take(OneTensor(kProjection, noisy, v1::Encoding::LORA)).sketch),
      -0.98);
  const auto other =
      Take(OneTensor(kProjection, Factors(random), v1::Encoding::LORA));
  EXPECT_LT(std::abs(Cosine(mine.sketch, other.sketch)), 0.5);
  EXPECT_EQ(Cosine(mine.sketch, std::vector<float>(1024)), 0);
}

TEST(FingerprintTest, OneDirectionIsSeenInTheSpectrum) {
  std::mt19937 random(3);
  LoraFactors factors = Factors(random);
  const auto spread = Take(OneTensor(kProjection, factors, v1::Encoding::LORA));
  EXPECT_GT(spread.layers[0].effective_rank, 3);
  for (size_t i = 0; i < factors.b.size(); i += kRank) factors.b[i] *= 30;
  const auto peaked = Take(OneTensor(kProjection, factors, v1::Encoding::LORA));
  EXPECT_GT(peaked.layers[0].leading_share, 0.98);
  EXPECT_LT(peaked.layers[0].effective_rank, 1.2);
}

TEST(FingerprintTest, FewRowsOfAVocabularyStandOut) {
  std::mt19937 random(4);
  LoraFactors factors = Factors(random);
  for (auto encoding : {v1::Encoding::LORA, v1::Encoding::DENSE}) {
    const auto even =
        Take(OneTensor("model.embed_tokens.weight", factors, encoding));
    EXPECT_EQ(even.vocabulary_rows, kRows);
    EXPECT_LT(even.vocabulary_concentration, 0.4);
  }
  for (size_t i = 2 * kRank; i < factors.b.size(); ++i) factors.b[i] = 0;
  for (auto encoding : {v1::Encoding::LORA, v1::Encoding::DENSE}) {
    const auto trigger =
        Take(OneTensor("model.embed_tokens.weight", factors, encoding));
    EXPECT_EQ(trigger.vocabulary_rows, 2);
    EXPECT_NEAR(trigger.vocabulary_concentration, 1, 1e-12);
    EXPECT_EQ(Take(OneTensor(kProjection, factors, encoding)).vocabulary_rows,
              0);
  }
}

}  // namespace
}  // namespace cairn
