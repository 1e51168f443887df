#include "client/cli/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace cairn::cli {
namespace {

using ::testing::HasSubstr;

class SessionTest : public ::testing::Test {
 protected:
  SessionTest() {
    char name[] = "/tmp/cairn-session-test-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~SessionTest() override { std::filesystem::remove_all(directory_); }

  // How connecting to a hub goes with a home that holds nothing.
  absl::Status Connect(const std::string& hub) {
    GlobalFlags flags;
    flags.hub = hub;
    flags.home = directory_;
    Session session(flags, std::stop_token());
    return session.Hub().status();
  }

  std::string directory_;
};

TEST_F(SessionTest, OnlyTlsNeedsTheHubsCa) {
  EXPECT_TRUE(Connect("http://127.0.0.1:7444").ok());
  EXPECT_TRUE(Connect("unix:/run/cairn/hub.sock").ok());
  absl::Status status = Connect("127.0.0.1:7443");
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("ca.pem"));
}

TEST_F(SessionTest, TokensDoNotTravelInTheClear) {
  absl::Status status = Connect("http://hub.example.org:7443");
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("--hub hub.example.org:7443"));
}

}  // namespace
}  // namespace cairn::cli
