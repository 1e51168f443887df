#include "client/names.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(NamesTest, ModelsMayLeaveOutTheCollection) {
  EXPECT_EQ(*ModelName("tiny"), "models/tiny");
  EXPECT_EQ(*ModelName("models/tiny"), "models/tiny");
  for (const char* bad : {"", "models/", "a/b", "models/a/b"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ModelName(bad).status())) << bad;
  }
}

TEST(NamesTest, ItemsMayLeaveOutCollections) {
  const std::string full = "models/m/contributions/c1";
  EXPECT_EQ(*ItemName(full, "contributions"), full);
  EXPECT_EQ(*ItemName("m/contributions/c1", "contributions"), full);
  EXPECT_EQ(*ItemName("m/c1", "contributions"), full);
  for (const char* bad : {"c1", "m/batches/c1", "m//c1", "a/b/c/d", ""}) {
    EXPECT_TRUE(
        absl::IsInvalidArgument(ItemName(bad, "contributions").status()))
        << bad;
  }
}

TEST(NamesTest, ReleasesAreNamedByModelAndReference) {
  EXPECT_EQ(ParseReleaseRef("m")->name(), "models/m/releases/latest");
  EXPECT_EQ(ParseReleaseRef("models/m@v1.0.0")->name(),
            "models/m/releases/v1.0.0");
  EXPECT_EQ(ParseReleaseRef("m@sha256:abcdef0123")->ref, "abcdef0123");
  EXPECT_EQ(ParseReleaseRef("models/m/releases/v2.0.0")->ref, "v2.0.0");
  EXPECT_EQ(ParseReleaseRef("m@stable#gguf")->flavour, "gguf");
  for (const char* bad : {"", "@v1", "m@", "m@a/b", "a/b@v1"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseReleaseRef(bad).status())) << bad;
  }
}

TEST(NamesTest, PartsOfFullNames) {
  EXPECT_EQ(ModelOf("models/m/batches/b"), "models/m");
  EXPECT_EQ(ShortName("models/m/batches/b"), "b");
  EXPECT_EQ(ShortName("b"), "b");
  EXPECT_EQ(ReleaseName("models/m", "models/m/releases/v1.0.0"),
            "models/m/releases/v1.0.0");
  EXPECT_EQ(ReleaseName("models/m", "stable"), "models/m/releases/stable");
}

}  // namespace
}  // namespace cairn
