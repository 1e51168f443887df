#include "client/progress.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ProgressTest, BytesAreShownInUnits) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(640 << 10), "640 KiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 30), "3.0 GiB");
}

TEST(ProgressTest, ALineTellsShareRateAndTimeLeft) {
  ProgressMeter meter(ProgressStyle::kNone, "sending", 4 << 20);
  meter.Add(1 << 20);
  EXPECT_EQ(meter.Line(absl::Seconds(1)),
            "sending  25% 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 0:03 left");
  meter.Set(4 << 20);
  EXPECT_EQ(meter.Line(absl::Seconds(2)),
            "sending 100% 4.0 MiB of 4.0 MiB, 2.0 MiB/s");
}

TEST(ProgressTest, WhatMustBeSentAgainIsTakenBack) {
  ProgressMeter meter(ProgressStyle::kNone, "sending", 100);
  meter.Add(80);
  meter.Add(-30);
  EXPECT_EQ(meter.Line(absl::Seconds(1)),
            "sending  50% 50 B of 100 B, 50 B/s, 0:01 left");
}

}  // namespace
}  // namespace cairn
