#include "core/base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "core/base/status_util.h"

namespace cairn {
namespace {

class FileTest : public ::testing::Test {
 protected:
  FileTest() {
    char name[] = "/tmp/cairn-file-test-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~FileTest() override { std::filesystem::remove_all(directory_); }
  std::string Path(const std::string& name) { return directory_ + "/" + name; }

  std::string directory_;
};

TEST_F(FileTest, ReplacesAFileAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFile(Path("a"), "one").ok());
  ASSERT_TRUE(WriteFile(Path("a"), "two", 0600).ok());
  EXPECT_EQ(*ReadFile(Path("a")), "two");
  struct stat told;
  ASSERT_EQ(stat(Path("a").c_str(), &told), 0);
  EXPECT_EQ(told.st_mode & 0777, 0600u);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_EQ(files, 1);
}

TEST_F(FileTest, RefusesAFileBeyondTheLimit) {
  ASSERT_TRUE(WriteFile(Path("a"), "12345").ok());
  auto read = ReadFile(Path("a"), 4);
  EXPECT_EQ(GetReason(read.status())->code, "LIMIT_EXCEEDED");
  EXPECT_TRUE(ReadFile(Path("a"), 5).ok());
}

TEST_F(FileTest, NamesWhatIsMissing) {
  auto read = ReadFile(Path("absent"));
  EXPECT_TRUE(absl::IsNotFound(read.status()));
  EXPECT_NE(read.status().ToString().find("absent"), std::string::npos);
}

TEST(SystemErrorTest, SaysOfAFullDiskWhatToDo) {
  for (const int error : {ENOSPC, EDQUOT}) {
    const absl::Status full = SystemError(error, "write /x");
    EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
    ASSERT_TRUE(GetReason(full).has_value());
    EXPECT_EQ(GetReason(full)->code, "STORAGE_FULL");
    EXPECT_NE(full.message().find("make room"), std::string::npos) << full;
  }
}

TEST_F(FileTest, AppenderGoesOnAfterTheKeptPrefix) {
  ASSERT_TRUE(WriteFile(Path("a.part"), "keep, drop").ok());
  auto appender = FileAppender::Open(Path("a.part"), 4);
  ASSERT_TRUE(appender.ok());
  ASSERT_TRUE(appender->Append(" going").ok());
  ASSERT_TRUE(std::move(*appender).Publish(Path("a")).ok());
  EXPECT_EQ(*ReadFile(Path("a")), "keep going");
  EXPECT_FALSE(std::filesystem::exists(Path("a.part")));
}

TEST_F(FileTest, MakesParentsAndAcceptsWhatIsThere) {
  EXPECT_TRUE(MakeDirectory(Path("x/y/z")).ok());
  EXPECT_TRUE(MakeDirectory(Path("x/y/z")).ok());
  ASSERT_TRUE(WriteFile(Path("file"), "").ok());
  EXPECT_FALSE(MakeDirectory(Path("file")).ok());
}

}  // namespace
}  // namespace cairn
