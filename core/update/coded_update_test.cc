#include "core/update/coded_update.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>
#include <random>

#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "core/update/coded_update_writer.h"
#include "core/update/varint.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

const std::string kBase = "sha256:" + std::string(64, 'b');

const CodedFormat& Format(const std::string& name) {
  for (const CodedFormat& format : kCodedFormats) {
    if (format.name == name) return format;
  }
  ADD_FAILURE() << name;
  return kCodedFormats[0];
}

class CodedUpdateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ =
        ::testing::TempDir() + "/coded_update_" +
        ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<CodedUpdateWriter> Writer(const std::string& format) {
    auto writer = CodedUpdateWriter::Create(directory_ + "/" + kUpdateFile,
                                            kBase, Format(format));
    EXPECT_TRUE(writer.ok()) << writer.status();
    return *std::move(writer);
  }
  std::unique_ptr<Update> Open() {
    auto update = OpenUpdateDirectory(directory_);
    EXPECT_TRUE(update.ok()) << update.status();
    return update.ok() ? *std::move(update) : nullptr;
  }

  std::vector<float> Numbers(int64_t count) {
    std::vector<float> out(static_cast<size_t>(count));
    for (float& number : out) {
      number = std::normal_distribution<float>(0.0F, 0.01F)(random_);
    }
    return out;
  }
  std::vector<int64_t> Listed(int64_t elements, double density) {
    std::vector<int64_t> out;
    for (int64_t i = 0; i < elements; ++i) {
      if (std::uniform_real_distribution<>(0, 1)(random_) < density) {
        out.push_back(i);
      }
    }
    return out;
  }

  // Holds tau of the only tensor against `want`, whole and in pieces.
  void ExpectChange(const Update& update, const std::vector<float>& want) {
    ASSERT_EQ(update.form(), Update::Form::kDifference);
    EXPECT_TRUE(update.CheckFinite().ok());
    const std::string& name = update.touched()[0].name;
    auto change = update.OpenChange(name);
    ASSERT_TRUE(change.ok()) << change.status();
    std::vector<float> got(want.size(), 7.0F);
    ASSERT_TRUE((*change)->Read(0, absl::MakeSpan(got)).ok());
    ASSERT_TRUE(got == want);
    for (int round = 0; round < 50; ++round) {
      const size_t first = random_() % want.size();
      const size_t count = random_() % (want.size() - first + 1);
      std::vector<float> piece(count, 7.0F);
      ASSERT_TRUE((*change)
                      ->Read(static_cast<int64_t>(first), absl::MakeSpan(piece))
                      .ok());
      ASSERT_TRUE(std::equal(piece.begin(), piece.end(),
                             want.begin() + static_cast<ptrdiff_t>(first)))
          << first << " + " << count;
    }
    std::vector<float> past(2);
    EXPECT_EQ(
        (*change)
            ->Read(static_cast<int64_t>(want.size()) - 1, absl::MakeSpan(past))
            .code(),
        absl::StatusCode::kOutOfRange);
    double square = 0;
    for (const float tau : want) square += static_cast<double>(tau) * tau;
    auto norm = update.DeltaNorm(name, *MakeMemorySource(""));
    ASSERT_TRUE(norm.ok());
    EXPECT_NEAR(*norm, std::sqrt(square), 1e-9);
  }

  std::mt19937 random_{5};
  std::string directory_;
};

std::vector<float> Rounded(DType dtype, std::vector<float> values) {
  RoundTo(dtype, absl::MakeSpan(values));
  return values;
}

TEST_F(CodedUpdateTest, ListedValuesOfEveryFormComeBack) {
  const TensorSpec spec{
      .name = "w", .dtype = DType::kBF16, .shape = {300, 200}};
  const std::vector<int64_t> listed = Listed(spec.elements(), 0.4);
  const std::vector<float> values =
      Numbers(static_cast<int64_t>(listed.size()));
  struct Case {
    PartValues values;
    double error;  // of each value, as a share of the largest
  };
  for (const Case& test :
       std::vector<Case>{{{.form = ValueForm::kF32}, 0},
                         {{.form = ValueForm::kF16}, 0x1p-11},
                         {{.form = ValueForm::kBF16}, 0x1p-8},
                         {{.form = ValueForm::kInt8, .group = 256}, 0.51 / 127},
                         {{.form = ValueForm::kInt4, .group = 7}, 0.51 / 7}}) {
    auto writer = Writer("sparse");
    ASSERT_TRUE(writer->BeginTensor(spec).ok());
    ASSERT_TRUE(writer->BeginListed(test.values).ok());
    // In pieces of any size.
    for (size_t at = 0; at < listed.size();) {
      const size_t n =
          std::min<size_t>(1 + random_() % 9000, listed.size() - at);
      ASSERT_TRUE(
          writer->AddPositions(absl::MakeConstSpan(listed).subspan(at, n))
              .ok());
      ASSERT_TRUE(
          writer->AddValues(absl::MakeConstSpan(values).subspan(at, n)).ok());
      at += n;
    }
    ASSERT_TRUE(std::move(*writer).Finish().ok());
    auto update = Open();
    ASSERT_NE(update, nullptr);
    EXPECT_EQ(update->encoding(), v1::Encoding::SPARSE);
    EXPECT_EQ(update->encoding(), v1::Encoding::SPARSE);
    auto change = update->OpenChange("w");
    ASSERT_TRUE(change.ok());
    std::vector<float> got(static_cast<size_t>(spec.elements()));
    ASSERT_TRUE((*change)->Read(0, absl::MakeSpan(got)).ok());
    float largest = 0;
    for (float value : values) largest = std::max(largest, std::fabs(value));
    std::vector<float> expanded(got.size());
    for (size_t i = 0; i < listed.size(); ++i) {
      const auto at = static_cast<size_t>(listed[i]);
      ASSERT_NEAR(got[at], values[i], test.error * largest);
      expanded[at] = got[at];
    }
    ExpectChange(*update, expanded);  // zeros elsewhere
  }
}

TEST_F(CodedUpdateTest, SignsTakeTheirScale) {
  const TensorSpec spec{.name = "w", .dtype = DType::kF32, .shape = {40, 50}};
  const std::vector<float> values = Numbers(spec.elements());
  // One scale for all, given; then one a row, the mean of its magnitudes.
  for (const int64_t group : {0, 50}) {
    auto writer = Writer("bit");
    ASSERT_TRUE(writer->BeginTensor(spec).ok());
    ASSERT_TRUE(
        writer
            ->BeginAll(
                {.form = ValueForm::kSign, .group = group, .scale = 0.25F})
            .ok());
    ASSERT_TRUE(writer->AddValues(values).ok());
    ASSERT_TRUE(std::move(*writer).Finish().ok());
    std::vector<float> want;
    for (size_t row = 0; row < 40; ++row) {
      double sum = 0;
      for (size_t i = 0; i < 50; ++i) sum += std::fabs(values[row * 50 + i]);
      const float scale = group == 0 ? 0.25F : static_cast<float>(sum / 50);
      for (size_t i = 0; i < 50; ++i) {
        want.push_back(values[row * 50 + i] > 0 ? scale : -scale);
      }
    }
    auto update = Open();
    ASSERT_NE(update, nullptr);
    EXPECT_EQ(update->encoding(), v1::Encoding::BIT);
    ExpectChange(*update, want);
  }
}

TEST_F(CodedUpdateTest, QuantisedGroupsKeepZerosAndLargest) {
  const TensorSpec spec{.name = "w", .dtype = DType::kF16, .shape = {131}};
  std::vector<float> values(131, 0.0F);
  for (size_t i = 0; i < 64; ++i) values[i] = static_cast<float>(i) - 32.0F;
  values[130] = -3.0F;
  for (const ValueForm form : {ValueForm::kInt8, ValueForm::kInt4}) {
    auto writer = Writer(form == ValueForm::kInt8 ? "int8" : "int4");
    ASSERT_TRUE(writer->BeginTensor(spec).ok());
    ASSERT_TRUE(writer->BeginAll({.form = form, .group = 64}).ok());
    ASSERT_TRUE(writer->AddValues(values).ok());
    ASSERT_TRUE(std::move(*writer).Finish().ok());
    auto update = Open();
    ASSERT_NE(update, nullptr);
    const float largest = form == ValueForm::kInt8 ? 127.0F : 7.0F;
    const float scale = 32.0F / largest;
    std::vector<float> want(131, 0.0F);
    for (size_t i = 0; i < 64; ++i) {
      want[i] = std::nearbyint(values[i] / scale) * scale;
    }
    want[130] = -largest * (3.0F / largest);
    ExpectChange(*update, want);
  }
}

TEST_F(CodedUpdateTest, PartsAddUp) {
  const TensorSpec spec{
      .name = "w", .dtype = DType::kBF16, .shape = {60, 7, 10}};
  const std::vector<float> left = Numbers(60 * 3), right = Numbers(3 * 70);
  const std::vector<int64_t> listed = Listed(spec.elements(), 0.1);
  const std::vector<float> values =
      Numbers(static_cast<int64_t>(listed.size()));
  auto writer = Writer("low-rank");
  ASSERT_TRUE(writer->BeginTensor(spec).ok());
  ASSERT_TRUE(writer->AddProduct(3, ValueForm::kBF16, left, right).ok());
  ASSERT_TRUE(writer->BeginListed({}).ok());
  ASSERT_TRUE(writer->AddPositions(listed).ok());
  ASSERT_TRUE(writer->AddValues(values).ok());
  ASSERT_TRUE(std::move(*writer).Finish().ok());
  const std::vector<float> l = Rounded(DType::kBF16, left);
  const std::vector<float> r = Rounded(DType::kBF16, right);
  std::vector<float> want;
  for (size_t row = 0; row < 60; ++row) {
    for (size_t column = 0; column < 70; ++column) {
      float sum = 0;
      for (size_t k = 0; k < 3; ++k) {
        sum = std::fma(l[row * 3 + k], r[k * 70 + column], sum);
      }
      want.push_back(sum);
    }
  }
  for (size_t i = 0; i < listed.size(); ++i) {
    want[static_cast<size_t>(listed[i])] += values[i];
  }
  auto update = Open();
  ASSERT_NE(update, nullptr);
  EXPECT_EQ(update->EffectBytes("w"), 4 * 3 * 130);
  EXPECT_EQ(update->encoding(), v1::Encoding::LOW_RANK);
  ExpectChange(*update, want);
  // Tuned is base + tau, rounded once.
  std::vector<float> base = Rounded(DType::kBF16, Numbers(spec.elements()));
  std::string bytes(base.size() * 2, '\0');
  FromFloats(DType::kBF16, base, absl::MakeSpan(&bytes[0], bytes.size()));
  const auto source = MakeMemorySource(bytes);
  ASSERT_TRUE(
      update
          ->ReadTuned("w", *source, 0, absl::MakeSpan(&bytes[0], bytes.size()))
          .ok());
  std::vector<float> tuned(base.size());
  ToFloats(DType::kBF16, bytes, absl::MakeSpan(tuned));
  for (size_t i = 0; i < base.size(); ++i) base[i] += want[i];
  EXPECT_TRUE(tuned == Rounded(DType::kBF16, base));
}

TEST_F(CodedUpdateTest, TellsWhichTensorIsNotFinite) {
  auto writer = Writer("int8");
  const TensorSpec spec{.name = "w", .dtype = DType::kF32, .shape = {2}};
  ASSERT_TRUE(writer->BeginTensor(spec).ok());
  // The scale is finite; 127 times it might not be.
  ASSERT_TRUE(
      writer->BeginAll({.form = ValueForm::kInt8, .scale = 3e38F}).ok());
  ASSERT_TRUE(writer->AddValues({1.0F, 2.0F}).ok());
  ASSERT_TRUE(std::move(*writer).Finish().ok());
  auto update = Open();
  ASSERT_NE(update, nullptr);
  const absl::Status status = update->CheckFinite();
  EXPECT_EQ(GetReason(status)->code, "NON_FINITE");
  EXPECT_EQ(GetReason(status)->details["tensor"], "w");
}

TEST_F(CodedUpdateTest, WriterRefusesWhatDoesNotFit) {
  auto writer = Writer("sparse");
  TensorSpec spec{.name = "b", .dtype = DType::kBF16, .shape = {4}};
  ASSERT_TRUE(writer->BeginTensor(spec).ok());
  EXPECT_FALSE(writer->AddPositions({1}).ok());
  ASSERT_TRUE(writer->BeginListed({.form = ValueForm::kReplacement}).ok());
  EXPECT_TRUE(writer->AddPositions({1}).ok());
  EXPECT_FALSE(writer->AddPositions({1}).ok());
  EXPECT_FALSE(writer->AddPositions({4}).ok());
  EXPECT_FALSE(writer->AddBytes(std::string(3, 'v')).ok());
  EXPECT_FALSE(writer->AddValues({1.0F}).ok());
  EXPECT_TRUE(writer->AddBytes(std::string(4, 'v')).ok());
  spec.name = "a";
  EXPECT_FALSE(writer->BeginTensor(spec).ok());
  spec.name = "c";
  EXPECT_THAT(std::string(writer->BeginTensor(spec).message()),
              HasSubstr("has 2 values for 1"));
  auto empty = Writer("sparse");
  ASSERT_TRUE(empty->BeginTensor(spec).ok());
  EXPECT_EQ(std::move(*empty).Finish().code(),
            absl::StatusCode::kFailedPrecondition);
}

// As the first version was written.
TEST(SparseUpdateTest, FirstVersionIsStillRead) {
  const auto record = [](const std::string& name, uint64_t shared,
                         std::vector<uint64_t> shape, uint64_t count,
                         uint64_t gap_bytes) {
    std::string out;
    AppendVarint(shared, out);
    AppendVarint(name.size() - shared, out);
    out += name.substr(shared);
    AppendVarint(4, out);
    out += "BF16";
    AppendVarint(shape.size(), out);
    for (uint64_t d : shape) AppendVarint(d, out);
    AppendVarint(count, out);
    AppendVarint(gap_bytes, out);
    return out;
  };
  const std::string table =
      record("layer.a", 0, {4, 100}, 3, 4) + record("layer.b", 6, {5}, 1, 1);
  std::string gaps;
  for (uint64_t gap : {2, 300, 0}) AppendVarint(gap, gaps);
  AppendVarint(4, gaps);
  const std::string values = "AaBbCcDd";
  const auto bytes = [](const char* name, const std::string& text) {
    return TensorSpec{.name = name,
                      .dtype = DType::kU8,
                      .shape = {static_cast<int64_t>(text.size())}};
  };
  auto layout = LayOutSafetensors(
      {bytes("cairn.tensors", table), bytes("cairn.gaps", gaps),
       bytes("cairn.values", values)},
      {{"cairn.format", "sparse"},
       {"cairn.version", "1"},
       {"cairn.base", kBase}});
  auto update =
      OpenUpdate({{kUpdateFile,
                   MakeMemorySource(layout->header + gaps + table + values)}});
  ASSERT_TRUE(update.ok()) << update.status();
  EXPECT_EQ((*update)->form(), Update::Form::kReplacement);
  std::string a(800, '.');
  ASSERT_TRUE((*update)
                  ->ReadTuned("layer.a", *MakeMemorySource(a), 0,
                              absl::MakeSpan(&a[0], a.size()))
                  .ok());
  std::string want(800, '.');
  want.replace(2 * 2, 2, "Aa")
      .replace(2 * 303, 2, "Bb")
      .replace(2 * 304, 2, "Cc");
  EXPECT_EQ(a, want);
  std::string b = "..........";
  ASSERT_TRUE((*update)
                  ->ReadTuned("layer.b", *MakeMemorySource(b), 0,
                              absl::MakeSpan(&b[0], 10))
                  .ok());
  EXPECT_EQ(b, "........Dd");
}

}  // namespace
}  // namespace cairn
