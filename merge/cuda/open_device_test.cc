#include "merge/cuda/open_device.h"

#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace cairn {
namespace {

TEST(OpenTileDeviceTest, TheProcessorNeedsNone) {
  EXPECT_EQ(*OpenTileDevice("cpu"), nullptr);
}

TEST(OpenTileDeviceTest, RefusesUnknownNames) {
  EXPECT_EQ(OpenTileDevice("tpu").status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(OpenTileDeviceTest, RefusesWhatIsNotThere) {
  const absl::Status status = OpenTileDevice("cuda:1023").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "cuda:1023")) << status;
}

}  // namespace
}  // namespace cairn
