#include "core/rpc/grpc_status.h"

#include <gtest/gtest.h>

#include "core/base/status_util.h"

namespace cairn {
namespace {

TEST(GrpcStatusTest, CarriesReasonAndRetryDelayBothWays) {
  absl::Status sent = WithRetryDelay(
      ReasonedError(absl::StatusCode::kResourceExhausted, "LIMIT_EXCEEDED",
                    "too many streams", {{"limit", "8"}}),
      absl::Milliseconds(1500));
  absl::Status got = FromGrpcStatus(ToGrpcStatus(sent));
  EXPECT_EQ(got, sent);
  ASSERT_TRUE(GetReason(got).has_value());
  EXPECT_EQ(GetReason(got)->code, "LIMIT_EXCEEDED");
  EXPECT_EQ(GetReason(got)->details.at("limit"), "8");
  EXPECT_EQ(GetRetryDelay(got), absl::Milliseconds(1500));
}

TEST(GrpcStatusTest, KeepsEveryCode) {
  for (int code = 0; code <= 16; ++code) {
    absl::Status sent(static_cast<absl::StatusCode>(code), "text");
    EXPECT_EQ(FromGrpcStatus(ToGrpcStatus(sent)).code(), sent.code());
  }
}

TEST(GrpcStatusTest, ForeignDetailsAreIgnored) {
  grpc::Status strange(grpc::StatusCode::INTERNAL, "text", "\xff\xff");
  EXPECT_EQ(FromGrpcStatus(strange), absl::InternalError("text"));
}

}  // namespace
}  // namespace cairn
