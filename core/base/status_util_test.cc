#include "core/base/status_util.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(StatusUtilTest, ReasonSurvivesAnnotation) {
  absl::Status status = Annotate(
      ReasonedError(absl::StatusCode::kInvalidArgument, "NON_FINITE",
                    "value 3 is NaN", {{"tensor", "a.weight"}}),
      "screening update");
  EXPECT_EQ(status.message(), "screening update: value 3 is NaN");
  auto reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->code, "NON_FINITE");
  EXPECT_EQ(reason->details.at("tensor"), "a.weight");
}

TEST(StatusUtilTest, DetailsAreAddedAndNeverOverwritten) {
  absl::Status status = WithDetails(
      ReasonedError(absl::StatusCode::kAlreadyExists, "DUPLICATE", "twice",
                    {{"file", "x"}}),
      {{"file", "y"}, {"contribution", "models/m/contributions/c"}});
  auto reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->details.at("file"), "x");
  EXPECT_EQ(reason->details.at("contribution"), "models/m/contributions/c");
}

TEST(StatusUtilTest, PlainErrorHasNoReason) {
  EXPECT_FALSE(GetReason(absl::InternalError("x")).has_value());
  EXPECT_FALSE(GetRetryDelay(absl::InternalError("x")).has_value());
  EXPECT_TRUE(Annotate(absl::OkStatus(), "doing").ok());
}

TEST(StatusUtilTest, RetryDelayRoundTrips) {
  absl::Status status = WithRetryDelay(absl::ResourceExhaustedError("busy"),
                                       absl::Milliseconds(1500));
  EXPECT_EQ(GetRetryDelay(status), absl::Milliseconds(1500));
}

TEST(StatusUtilTest, DetailsThatAreNoTextDoNotLoseTheReason) {
  const absl::Status status = WithDetails(
      ReasonedError(absl::StatusCode::kInvalidArgument, "BAD", "x",
                    {{"tensor", "a\xBFz"}}),
      {{"key", "\xC3\xA9\xC3"}});
  const auto reason = GetReason(status);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->code, "BAD");
  EXPECT_EQ(reason->details.at("tensor"), "a\xEF\xBF\xBDz");
  EXPECT_EQ(reason->details.at("key"), "\xC3\xA9\xEF\xBF\xBD");
}

}  // namespace
}  // namespace cairn
