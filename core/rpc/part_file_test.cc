#include "core/rpc/part_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace cairn {
namespace {

namespace fs = std::filesystem;

class PartFileTest : public ::testing::Test {
 protected:
  PartFileTest() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PartFileTest() override { fs::remove_all(folder_); }

  PartFile Open(int64_t size) {
    auto file = PartFile::Open(path_, size);
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  static void Write(PartFile& file, int64_t offset, absl::string_view bytes) {
    DirectAppender appender = file.AppendAt(offset);
    ASSERT_TRUE(appender.Append({bytes}).ok());
    ASSERT_TRUE(appender.Flush().ok());
  }
  std::string Contents() {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in),
            std::istreambuf_iterator<char>()};
  }

  const fs::path folder_ = fs::path(::testing::TempDir()) / "cairn-part-file";
  const std::string path_ = folder_ / "file";
};

TEST_F(PartFileTest, RangesInAnyOrderBecomeTheFile) {
  PartFile file = Open(6);
  EXPECT_EQ(file.found(), 0);
  Write(file, 3, "def");
  Write(file, 0, "abc");
  std::string out(4, '\0');
  ASSERT_TRUE(file.ReadAt(1, absl::MakeSpan(out)).ok());
  EXPECT_EQ(out, "bcde");
  ASSERT_TRUE(std::move(file).Publish().ok());
  EXPECT_EQ(Contents(), "abcdef");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(PartFileTest, OnlyWhatWasNotedIsBuiltOn) {
  {
    PartFile file = Open(100);
    Write(file, 50, "later");
    Write(file, 0, "front");
    ASSERT_TRUE(file.Note(5).ok());
  }
  EXPECT_EQ(Open(100).found(), 5);
}

TEST_F(PartFileTest, FileWithHolesAndNoNoteYetIsBegunAnew) {
  {
    PartFile file = Open(100);
    Write(file, 50, "later");
  }
  EXPECT_EQ(Open(100).found(), 0);
}

TEST_F(PartFileTest, FileOfAnEarlierKindIsBuiltOnByItsLength) {
  std::ofstream(path_ + ".part") << "0123";
  EXPECT_EQ(Open(100).found(), 4);
}

TEST_F(PartFileTest, LongerRemainsAreDropped) {
  std::ofstream(path_ + ".part") << "0123456789";
  PartFile file = Open(4);
  EXPECT_EQ(file.found(), 0);
  Write(file, 0, "abcd");
  ASSERT_TRUE(std::move(file).Publish().ok());
  EXPECT_EQ(Contents(), "abcd");
}

TEST_F(PartFileTest, DamagedNoteIsNotBelieved) {
  std::ofstream(path_ + ".part") << "0123456789";
  std::ofstream(path_ + ".part.have") << "seven";
  EXPECT_EQ(Open(100).found(), 0);
}

TEST_F(PartFileTest, DiscardLeavesNothing) {
  PartFile file = Open(4);
  Write(file, 0, "abcd");
  file.Discard();
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(PartFileTest, FileThatCannotFitIsRefusedAtOnce) {
  auto file = PartFile::Open(path_, int64_t{1} << 60);
  EXPECT_TRUE(absl::IsResourceExhausted(file.status())) << file.status();
}

}  // namespace
}  // namespace cairn
