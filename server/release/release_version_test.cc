#include "server/release/release_version.h"

#include "gtest/gtest.h"

namespace cairn {
namespace {

TEST(ReleaseVersionTest, ReadsWhatItWrites) {
  for (const char* text : {"v1.0.0", "v10.200.3", "v0.0.0"}) {
    ASSERT_TRUE(ReleaseVersion::Parse(text).has_value()) << text;
    EXPECT_EQ(ReleaseVersion::Parse(text)->text(), text);
  }
}

TEST(ReleaseVersionTest, RefusesEverythingElse) {
  for (const char* text :
       {"", "v1", "1.0.0", "v1.0", "v1.0.0.0", "v01.0.0", "v1.0.-1", "v1.0. 1",
        "v1.0.x", "V1.0.0", "v1.0.99999999999999999999"}) {
    EXPECT_FALSE(ReleaseVersion::Parse(text).has_value()) << text;
  }
}

TEST(ReleaseVersionTest, OrdersByNumbers) {
  EXPECT_LT(*ReleaseVersion::Parse("v1.9.0"),
            *ReleaseVersion::Parse("v1.10.0"));
  EXPECT_LT(*ReleaseVersion::Parse("v1.9.9"), *ReleaseVersion::Parse("v2.0.0"));
  EXPECT_EQ(ReleaseVersion::Parse("v1.2.3")->NextMinor().text(), "v1.3.0");
  EXPECT_EQ(ReleaseVersion::Parse("v1.2.3")->NextPatch().text(), "v1.2.4");
}

}  // namespace
}  // namespace cairn
