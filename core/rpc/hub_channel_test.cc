#include "core/rpc/hub_channel.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/status_util.h"

namespace cairn {
namespace {

TEST(BackoffTest, DelaysDoubleToABoundWithJitter) {
  Backoff backoff;
  for (int step = 0; step < 12; ++step) {
    const absl::Duration whole =
        std::min(absl::Milliseconds(100) * (1 << step), absl::Seconds(3));
    const absl::Duration delay = backoff.Next(absl::UnavailableError("gone"));
    EXPECT_GE(delay, whole / 2) << step;
    EXPECT_LE(delay, whole) << step;
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(absl::UnavailableError("gone")),
            absl::Milliseconds(100));
}

TEST(BackoffTest, ThoseThatWereRefusedTogetherComeBackApart) {
  const absl::Status refused = WithRetryDelay(
      absl::ResourceExhaustedError("full"), absl::Seconds(10));
  absl::Duration least = absl::InfiniteDuration();
  absl::Duration most = absl::ZeroDuration();
  for (int client = 0; client < 200; ++client) {
    const absl::Duration delay = Backoff().Next(refused);
    least = std::min(least, delay);
    most = std::max(most, delay);
  }
  EXPECT_GE(least, absl::Seconds(10)) << "not before the hub said";
  EXPECT_LE(most, absl::Seconds(15));
  EXPECT_GT(most - least, absl::Seconds(2));
}

TEST(HubChannelTest, OnlyWhatAnotherAttemptMayCureIsTransient) {
  EXPECT_TRUE(IsTransient(absl::UnavailableError("no route")));
  EXPECT_FALSE(IsTransient(
      absl::UnavailableError("CERTIFICATE_VERIFY_FAILED: unknown issuer")));
  EXPECT_TRUE(IsTransient(WithRetryDelay(absl::ResourceExhaustedError("full"),
                                         absl::Seconds(1))));
  EXPECT_FALSE(IsTransient(absl::ResourceExhaustedError("over quota")));
  EXPECT_FALSE(IsTransient(absl::InvalidArgumentError("wrong")));
}

}  // namespace
}  // namespace cairn
