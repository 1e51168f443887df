#include "client/credentials.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/file.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class HomeTest : public ::testing::Test {
 protected:
  HomeTest() {
    unsetenv("CAIRN_TOKEN");
    unsetenv("CAIRN_TOKEN_FILE");
    char name[] = "/tmp/cairn-home-test-XXXXXX";
    directory_ = mkdtemp(name);
    home_ = std::make_unique<Home>(directory_ + "/home");
    EXPECT_TRUE(home_->Prepare().ok());
  }
  ~HomeTest() override { std::filesystem::remove_all(directory_); }

  unsigned Mode(const std::string& name) {
    struct stat told;
    EXPECT_EQ(stat((home_->path() + name).c_str(), &told), 0);
    return told.st_mode & 0777;
  }

  std::string directory_;
  std::unique_ptr<Home> home_;
};

TEST_F(HomeTest, SettingsComeBackAsWritten) {
  ASSERT_TRUE(
      home_
          ->WriteSettings(
              {.hub = "h:1", .identity = "alice", .root_fingerprint = "00ff"})
          .ok());
  auto settings = home_->ReadSettings();
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->hub, "h:1");
  EXPECT_EQ(settings->identity, "alice");
  EXPECT_EQ(settings->root_fingerprint, "00ff");
}

TEST_F(HomeTest, UnknownSettingIsNamed) {
  ASSERT_TRUE(WriteFile(home_->path() + "/config.yaml", "hubb: x\n").ok());
  EXPECT_THAT(home_->ReadSettings().status().ToString(), HasSubstr("`hubb`"));
}

TEST_F(HomeTest, SecretsAreForTheOwnerAlone) {
  ASSERT_TRUE(home_->ReadOrMakeKey().ok());
  ASSERT_TRUE(home_->WriteSettings({}).ok());
  EXPECT_EQ(Mode(""), 0700u);
  EXPECT_EQ(Mode("/key"), 0600u);
  EXPECT_EQ(Mode("/config.yaml"), 0600u);
}

TEST_F(HomeTest, KeepsItsKey) {
  EXPECT_FALSE(home_->ReadKey()->has_value());
  auto first = home_->ReadOrMakeKey();
  auto second = home_->ReadOrMakeKey();
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->public_hex(), second->public_hex());
}

TEST_F(HomeTest, DamagedKeyIsNamedAndNotReplaced) {
  ASSERT_TRUE(WriteFile(home_->path() + "/key", "zz").ok());
  EXPECT_THAT(home_->ReadOrMakeKey().status().ToString(), HasSubstr("/key"));
}

TEST_F(HomeTest, TokenOfTheFlagGoesBeforeEnvironmentAndHome) {
  EXPECT_EQ(*home_->ReadToken(""), "");
  ASSERT_TRUE(WriteFile(home_->path() + "/token", "of-home\n").ok());
  EXPECT_EQ(*home_->ReadToken(""), "of-home");
  setenv("CAIRN_TOKEN", "of-environment", 1);
  EXPECT_EQ(*home_->ReadToken(""), "of-environment");
  ASSERT_TRUE(WriteFile(directory_ + "/file", " of-file \n").ok());
  setenv("CAIRN_TOKEN_FILE", (directory_ + "/file").c_str(), 1);
  EXPECT_EQ(*home_->ReadToken(""), "of-file");
  ASSERT_TRUE(WriteFile(directory_ + "/flag", "of-flag").ok());
  EXPECT_EQ(*home_->ReadToken(directory_ + "/flag"), "of-flag");
  unsetenv("CAIRN_TOKEN");
  unsetenv("CAIRN_TOKEN_FILE");
}

TEST_F(HomeTest, NamedTokenFileMustBeThereAndFull) {
  EXPECT_TRUE(
      absl::IsNotFound(home_->ReadToken(directory_ + "/absent").status()));
  ASSERT_TRUE(WriteFile(directory_ + "/empty", "\n").ok());
  EXPECT_TRUE(absl::IsInvalidArgument(
      home_->ReadToken(directory_ + "/empty").status()));
}

TEST_F(HomeTest, RemembersWhatAReviewerSaw) {
  EXPECT_FALSE(home_->RecallReview("models/m/contributions/c")->has_value());
  SeenReview seen{.etag = "e1", .digest = "sha256:00", .report_ids = {"r1"}};
  ASSERT_TRUE(home_->RememberReview("models/m/contributions/c", seen).ok());
  auto recalled = home_->RecallReview("models/m/contributions/c");
  ASSERT_TRUE(recalled.ok() && recalled->has_value());
  EXPECT_EQ((*recalled)->etag, "e1");
  EXPECT_EQ((*recalled)->digest, "sha256:00");
  EXPECT_EQ((*recalled)->report_ids, std::vector<std::string>{"r1"});
}

}  // namespace
}  // namespace cairn
