#include "core/tensor/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {
namespace {

std::string Golden(const std::string& name) {
  const char* root = std::getenv("CAIRN_SOURCE_DIR");
  return std::string(root == nullptr ? "." : root) +
         "/tests/testdata/formats/" + name;
}

class RoundingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto file = OpenFileSource(Golden("rounding.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *std::move(file);
    auto header = SafetensorsHeader::Read(*file_, "rounding.safetensors");
    ASSERT_TRUE(header.ok()) << header.status();
    header_ = *std::move(header);
  }

  std::vector<char> Read(const char* name) {
    const TensorEntry* entry = header_.Find(name);
    std::vector<char> bytes(static_cast<size_t>(entry->end - entry->begin));
    EXPECT_TRUE(file_->ReadAt(entry->begin, absl::MakeSpan(bytes)).ok());
    return bytes;
  }

  std::vector<float> Floats() {
    std::vector<char> bytes = Read("f32");
    std::vector<float> out(bytes.size() / 4);
    ToFloats(DType::kF32, bytes, absl::MakeSpan(out));
    return out;
  }

  std::unique_ptr<ByteSource> file_;
  SafetensorsHeader header_;
};

TEST_F(RoundingTest, AgreesWithTorchBitForBit) {
  for (auto [name, dtype] :
       {std::pair("f16", DType::kF16), std::pair("bf16", DType::kBF16)}) {
    const std::vector<float> in = Floats();
    const std::vector<char> want = Read(name);
    std::vector<char> got(want.size());
    FromFloats(dtype, in, absl::MakeSpan(got));
    for (size_t i = 0; i < in.size(); ++i) {
      uint16_t a;
      uint16_t b;
      std::memcpy(&a, got.data() + 2 * i, 2);
      std::memcpy(&b, want.data() + 2 * i, 2);
      ASSERT_EQ(a, b) << name << " of " << std::hexfloat << in[i];
    }
  }
}

TEST_F(RoundingTest, HalvesComeBackExactly) {
  const std::vector<char> halves = Read("all_f16");
  std::vector<float> floats(halves.size() / 2);
  ToFloats(DType::kF16, halves, absl::MakeSpan(floats));
  EXPECT_EQ(floats[0], 0.0F);
  EXPECT_EQ(floats[1], std::ldexp(1.0F, -24)) << "the smallest subnormal";
  EXPECT_EQ(floats[0x3c00], 1.0F);
  EXPECT_EQ(floats[0x7bff], 65504.0F);
  std::vector<char> back(halves.size());
  FromFloats(DType::kF16, floats, absl::MakeSpan(back));
  EXPECT_EQ(back, halves);
}

TEST(DTypeTest, KeepsNanAndInfinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const std::vector<float> in = {nan, infinity, -infinity};
    std::vector<char> bytes(3 * static_cast<size_t>(DTypeBits(dtype)) / 8);
    FromFloats(dtype, in, absl::MakeSpan(bytes));
    EXPECT_FALSE(AllFinite(dtype, bytes));
    std::vector<float> out(3);
    ToFloats(dtype, bytes, absl::MakeSpan(out));
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_EQ(out[1], infinity);
    EXPECT_EQ(out[2], -infinity);
  }
}

TEST(DTypeTest, FindsWhatIsNotFiniteInEveryFloatingPointType) {
  struct Case {
    DType dtype;
    std::vector<uint8_t> finite;
    std::vector<uint8_t> special;
  };
  for (const Case& c : {
           Case{DType::kF64,
                {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xef, 0x7f},
                {0, 0, 0, 0, 0, 0, 0xf0, 0xff}},
           Case{DType::kF8E5M2, {0x7b}, {0x7c}},
           Case{DType::kF8E4M3, {0x7e}, {0xff}},
           Case{DType::kF8E8M0, {0xfe}, {0xff}},
           Case{DType::kF8E4M3FNUZ, {0x7f}, {0x80}},
           Case{DType::kF8E5M2FNUZ, {0x7f}, {0x80}},
           Case{DType::kC64,
                {0, 0, 0, 0, 0, 0, 0, 0},
                {0, 0, 0, 0, 0, 0, 0x80, 0x7f}},
       }) {
    auto bytes = [](const std::vector<uint8_t>& in) {
      return std::vector<char>(in.begin(), in.end());
    };
    EXPECT_TRUE(AllFinite(c.dtype, bytes(c.finite))) << DTypeName(c.dtype);
    EXPECT_FALSE(AllFinite(c.dtype, bytes(c.special))) << DTypeName(c.dtype);
  }
  EXPECT_TRUE(AllFinite(DType::kI64, std::string(8, '\xff')));
}

TEST(DTypeTest, NamesComeBack) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(ParseDType(DTypeName(dtype)), dtype);
  }
  EXPECT_EQ(ParseDType("F128"), std::nullopt);
}

TEST(DTypeTest, PackedBytesChecksItsInput) {
  EXPECT_EQ(*PackedBytes(DType::kF32, {2, 3}), 24);
  EXPECT_EQ(*PackedBytes(DType::kF4, {2, 3}), 3);
  EXPECT_EQ(*PackedBytes(DType::kF32, {}), 4);
  EXPECT_EQ(*PackedBytes(DType::kF32, {0, 5}), 0);
  EXPECT_FALSE(PackedBytes(DType::kF4, {3}).ok()) << "not whole bytes";
  EXPECT_FALSE(PackedBytes(DType::kF32, {-1}).ok());
  EXPECT_FALSE(PackedBytes(DType::kF32, {1LL << 40, 1LL << 40}).ok());
}

}  // namespace
}  // namespace cairn
