#include "core/base/device_name.h"

#include "gtest/gtest.h"

namespace cairn {
namespace {

TEST(DeviceNameTest, ReadsNumbers) {
  EXPECT_EQ(*ParseDeviceName("cpu"), std::nullopt);
  EXPECT_EQ(*ParseDeviceName("cuda"), 0);
  EXPECT_EQ(*ParseDeviceName("cuda:3"), 3);
}

TEST(DeviceNameTest, RefusesWhatIsNoDevice) {
  for (const char* text : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda1",
                           "cuda:99999999999", "cpu:0"}) {
    EXPECT_EQ(ParseDeviceName(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

}  // namespace
}  // namespace cairn
