#include "server/flow/resource_names.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ResourceNamesTest, ParsesWhatItPrints) {
  for (const char* name : {"models/tiny-llama", "models/a.b_c-1"}) {
    EXPECT_EQ(ModelName::Parse(name)->full(), name);
  }
  auto release = ReleaseName::Parse("models/m/releases/v1.0.0").value();
  EXPECT_EQ(release.id(), "v1.0.0");
  EXPECT_EQ(release.model().full(), "models/m");
  auto replay = ReplayName::Parse("models/m/releases/v1.0.0/replays/r1");
  EXPECT_EQ(replay->release().full(), "models/m/releases/v1.0.0");
}

TEST(ResourceNamesTest, RefusesWhatIsNoName) {
  for (const char* name :
       {"", "models", "models/", "models//x", "model/x", "models/a/b",
        "models/../x", "models/.x", "models/-x", "models/a b",
        "models/\xc3\xa9", "models/x\n", "users/x"}) {
    EXPECT_EQ(ModelName::Parse(name).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
  for (const char* name :
       {"models/m/releases/", "models/m/release/v1", "models//releases/v1",
        "models/m/releases/v1/x", "models/m/tags/v1"}) {
    EXPECT_EQ(ReleaseName::Parse(name).status().code(),
              absl::StatusCode::kInvalidArgument)
        << name;
  }
  EXPECT_FALSE(ReplayName::Parse("models/m/releases/v1/replays/").ok());
}

TEST(ResourceNamesTest, ChosenIdsAreLowerCase) {
  EXPECT_TRUE(IsChosenId("tiny-llama.2"));
  for (const char* id : {"Tiny", "", ".a", "-a", "_a", "a/b"}) {
    EXPECT_FALSE(IsChosenId(id)) << id;
  }
  EXPECT_FALSE(IsChosenId(std::string(65, 'a')));
}

TEST(ResourceNamesTest, PartsOfNames) {
  EXPECT_EQ(ShortName("models/m/suites/c"), "c");
  EXPECT_EQ(ShortName("c"), "c");
  EXPECT_EQ(ModelOf("models/m/suites/c"), "models/m");
  EXPECT_EQ(ModelOf("models/m"), "models/m");
  EXPECT_EQ(ModelOf("users/u"), "");
}

}  // namespace
}  // namespace cairn
