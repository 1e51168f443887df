#include "core/base/failpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class FailpointTest : public ::testing::Test {
 protected:
  ~FailpointTest() override { (void)ArmFailpoints(""); }
};

TEST_F(FailpointTest, IsInertUntilArmedAndAfterwards) {
  EXPECT_TRUE(Failpoint("file.write").ok());
  ASSERT_TRUE(ArmFailpoints("file.write=error").ok());
  EXPECT_TRUE(absl::IsUnavailable(Failpoint("file.write")));
  EXPECT_TRUE(Failpoint("file.sync").ok());
  ASSERT_TRUE(ArmFailpoints("").ok());
  EXPECT_TRUE(Failpoint("file.write").ok());
}

TEST_F(FailpointTest, HappensFromTheFirstTimeSoManyTimes) {
  ASSERT_TRUE(ArmFailpoints("file.sync=enospc@2*2,file.open=error*1").ok());
  EXPECT_TRUE(Failpoint("file.sync").ok());
  EXPECT_TRUE(absl::IsResourceExhausted(Failpoint("file.sync")));
  EXPECT_TRUE(absl::IsResourceExhausted(Failpoint("file.sync")));
  EXPECT_TRUE(Failpoint("file.sync").ok());
  EXPECT_FALSE(Failpoint("file.open").ok());
  EXPECT_TRUE(Failpoint("file.open").ok());
}

TEST_F(FailpointTest, CrashIsAKill) {
  ASSERT_TRUE(ArmFailpoints("store.commit=crash@2").ok());
  EXPECT_TRUE(Failpoint("store.commit").ok());
  EXPECT_EXIT((void)Failpoint("store.commit"),
              ::testing::KilledBySignal(SIGKILL), "");
}

TEST_F(FailpointTest, NonsenseIsNamedAndArmsNothing) {
  for (const auto& [plan, named] : std::map<std::string, std::string>{
           {"file.write=error,no.such=crash", "no.such"},
           {"file.write", "''"},
           {"file.write=explode", "explode"},
           {"file.write=crash@0", "@0"},
           {"file.write=crash*x", "*x"}}) {
    absl::Status status = ArmFailpoints(plan);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << plan;
    EXPECT_THAT(std::string(status.message()), HasSubstr(named));
    EXPECT_TRUE(Failpoint("file.write").ok()) << plan;
  }
}

// A name that stands nowhere is a step that no test breaks any more; one that
// stands twice cannot be hit on purpose.
TEST_F(FailpointTest, EveryNameStandsOnceInTheCode) {
  namespace fs = std::filesystem;
  const fs::path root = std::getenv("CAIRN_SOURCE_DIR");
  std::map<std::string, int> found;
  for (const char* top : {"storage", "server"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / top)) {
      const std::string file = entry.path().string();
      if (!file.ends_with(".cc") || file.ends_with("_test.cc")) continue;
      std::ifstream in(file);
      const std::string text{std::istreambuf_iterator<char>(in), {}};
      for (const char* name : kFailpointNames) {
        const std::string use = absl::StrCat("Failpoint(\"", name, "\")");
        for (size_t at = text.find(use); at != std::string::npos;
             at = text.find(use, at + 1)) {
          ++found[name];
        }
      }
    }
  }
  for (const char* name : kFailpointNames) EXPECT_EQ(found[name], 1) << name;
}

}  // namespace
}  // namespace cairn
