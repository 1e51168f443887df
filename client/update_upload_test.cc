#include "client/update_upload.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace cairn {
namespace {

namespace fs = std::filesystem;

class StampFilesTest : public ::testing::Test {
 protected:
  StampFilesTest() { fs::create_directories(directory_); }
  ~StampFilesTest() override { fs::remove_all(directory_); }

  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(directory_ / name) << bytes;
  }
  std::string Stamp() {
    auto stamp = StampFiles(directory_.string());
    EXPECT_TRUE(stamp.ok()) << stamp.status();
    return stamp.value_or("");
  }

  const fs::path directory_ =
      fs::path(::testing::TempDir()) / "cairn-stamp-files-test";
};

TEST_F(StampFilesTest, SameFilesHaveTheSameStamp) {
  Write("a", "one");
  EXPECT_EQ(Stamp(), Stamp());
  EXPECT_EQ(Stamp().size(), 64);
}

TEST_F(StampFilesTest, EveryChangeShows) {
  Write("a", "one");
  const std::string before = Stamp();
  Write("b", "two");
  const std::string more = Stamp();
  EXPECT_NE(more, before);
  // Other bytes of the same length under the same name.
  fs::remove(directory_ / "b");
  Write("b", "owt");
  EXPECT_NE(Stamp(), more);
  fs::remove(directory_ / "b");
  EXPECT_EQ(Stamp(), before);
}

TEST_F(StampFilesTest, MissingDirectoryIsNotFound) {
  EXPECT_TRUE(
      absl::IsNotFound(StampFiles((directory_ / "absent").string()).status()));
}

}  // namespace
}  // namespace cairn
