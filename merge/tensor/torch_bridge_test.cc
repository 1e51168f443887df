#include "merge/tensor/torch_bridge.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(CatchTorchTest, TurnsAnExceptionIntoAStatusWithoutBacktrace) {
  absl::Status status = CatchTorch("multiplying", [] {
    at::mm(at::ones({2, 3}), at::ones({2, 3}));
    return absl::OkStatus();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), StartsWith("multiplying: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("mat1 and mat2"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("frame #")));
}

TEST(CatchTorchTest, NamesExhaustedMemory) {
  absl::Status status = CatchTorch("allocating", [] {
    at::empty({int64_t{1} << 55});
    return absl::OkStatus();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(CatchTorchTest, PassesValuesThrough) {
  absl::StatusOr<int> value =
      CatchTorch("adding", []() -> absl::StatusOr<int> { return 3; });
  EXPECT_EQ(*value, 3);
}

TEST(DTypeBridgeTest, MapsTheNumericTypesBothWays) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(ToDType(*ToScalarType(dtype)), dtype);
  }
  absl::Status status = ToScalarType(DType::kF8E4M3).status();
  EXPECT_EQ(GetReason(status)->code, "UNSUPPORTED");
}

// A source of four floats.
std::string FourFloats() {
  const float values[] = {1, -2, 3, 0.5};
  return std::string(reinterpret_cast<const char*>(values), sizeof(values));
}

TEST(ReadTensorTest, HoldsTheBytes) {
  std::unique_ptr<ByteSource> source = MakeMemorySource(FourFloats());
  absl::StatusOr<at::Tensor> tensor = ReadTensor(*source, DType::kF32, {2, 2});
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ((*tensor)[1][0].item<float>(), 3);
  EXPECT_EQ(std::string(TensorBytes(*tensor).data(), 16), FourFloats());
}

TEST(ReadTensorTest, RefusesAShapeOfAnotherSize) {
  std::unique_ptr<ByteSource> source = MakeMemorySource(FourFloats());
  EXPECT_EQ(ReadTensor(*source, DType::kF32, {2, 3}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(AllFiniteTest, FindsEveryKindOfOddNumber) {
  at::Tensor tensor = at::ones({5, 7});
  EXPECT_TRUE(AllFinite(tensor));
  EXPECT_TRUE(AllFinite(at::empty({0})));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (float bad :
       {std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity}) {
    for (at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      at::Tensor changed = tensor.to(type).clone();
      changed[3][2] = bad;
      EXPECT_FALSE(AllFinite(changed)) << bad << " " << type;
    }
  }
}

}  // namespace
}  // namespace cairn
