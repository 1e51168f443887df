#include "core/base/gather_write.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace cairn {
namespace {

class GatherWriteTest : public ::testing::Test {
 protected:
  GatherWriteTest()
      : fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600)) {}
  ~GatherWriteTest() override {
    close(fd_);
    std::remove(path_.c_str());
  }
  std::string Contents() { return *ReadFile(path_); }

  const std::string path_ = ::testing::TempDir() + "/cairn-gather-write";
  const int fd_;
};

TEST_F(GatherWriteTest, PiecesLieOneAfterTheOther) {
  EXPECT_EQ(GatherWriteAt(fd_, 0, {"one", "", "two", "three"}), 0);
  EXPECT_EQ(GatherWriteAt(fd_, 3, {"TWO", ""}), 0);
  EXPECT_EQ(GatherWriteAt(fd_, 99, {}), 0);
  EXPECT_EQ(GatherWriteAt(fd_, 99, {"", ""}), 0);
  EXPECT_EQ(Contents(), "oneTWOthree");
}

TEST_F(GatherWriteTest, MorePiecesAndLargerOnesThanOneCallWrites) {
  std::vector<std::string> pieces;
  std::string whole;
  for (size_t i = 0; i < 300; ++i) {
    pieces.emplace_back((i * 37) % 5000, static_cast<char>('a' + i % 26));
  }
  pieces.emplace_back(3 * kWriteBytesMax + 7, 'z');
  pieces.emplace_back("end");
  for (const std::string& piece : pieces) whole += piece;
  const std::vector<absl::string_view> views(pieces.begin(), pieces.end());
  EXPECT_EQ(GatherWriteAt(fd_, 0, views), 0);
  EXPECT_EQ(Contents(), whole);
}

TEST_F(GatherWriteTest, TellsWhatTheSystemSays) {
  EXPECT_EQ(GatherWriteAt(-1, 0, {"lost"}), EBADF);
}

}  // namespace
}  // namespace cairn
