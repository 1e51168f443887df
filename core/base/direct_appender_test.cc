#include "core/base/direct_appender.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace cairn {
namespace {

constexpr size_t kBuffer = DirectAppender::kBufferBytes;

// With and without a way past the page cache.
class DirectAppenderTest : public ::testing::TestWithParam<bool> {
 protected:
  DirectAppenderTest() {
    file_.name = path_;
    file_.fd = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (GetParam()) file_.direct_fd = OpenDirect(path_);
  }
  ~DirectAppenderTest() override {
    close(file_.fd);
    std::remove(path_.c_str());
  }

  static std::string Some(size_t size) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) {
      bytes[i] = static_cast<char>(i * 2654435761U >> 13);
    }
    return bytes;
  }
  std::string Contents() { return *ReadFile(path_); }

  const std::string path_ = ::testing::TempDir() + "/cairn-direct-appender-" +
                            (GetParam() ? "direct" : "cached");
  WrittenFile file_;
};

TEST_P(DirectAppenderTest, PiecesOfAnySizeLieOneAfterTheOther) {
  const std::string bytes = Some(3 * kBuffer + 12345);
  std::vector<absl::string_view> pieces;
  for (size_t at = 0, size = 1; at < bytes.size(); at += size, size *= 3) {
    pieces.push_back(absl::string_view(bytes).substr(at, size));
  }
  DirectAppender appender(file_, 0);
  ASSERT_TRUE(appender.Append(pieces).ok());
  EXPECT_EQ(appender.end(), static_cast<int64_t>(bytes.size()));
  EXPECT_EQ(appender.written(), static_cast<int64_t>(3 * kBuffer));
  ASSERT_TRUE(appender.Flush().ok());
  EXPECT_EQ(appender.written(), appender.end());
  EXPECT_EQ(Contents(), bytes);
}

TEST_P(DirectAppenderTest, GoesOnWithinAPageAfterEachFlush) {
  const std::string bytes = Some(2 * kBuffer);
  size_t at = 0;
  DirectAppender appender(file_, 0);
  for (size_t size : {size_t{1}, size_t{4095}, size_t{5000}, size_t{4096},
                      kBuffer - 7, size_t{9}, size_t{100'000}}) {
    ASSERT_TRUE(
        appender.Append({absl::string_view(bytes).substr(at, size)}).ok());
    at += size;
    ASSERT_TRUE(appender.Flush().ok());
    EXPECT_EQ(Contents(), bytes.substr(0, at));
  }
}

TEST_P(DirectAppenderTest, BeginsWhereAnotherOneEnded) {
  const std::string bytes = Some(100'000);
  for (auto [begin, end] :
       {std::pair<size_t, size_t>{0, 5001}, {5001, 5002}, {5002, 100'000}}) {
    DirectAppender appender(file_, static_cast<int64_t>(begin));
    ASSERT_TRUE(
        appender.Append({absl::string_view(bytes).substr(begin, end - begin)})
            .ok());
    ASSERT_TRUE(appender.Flush().ok());
  }
  EXPECT_EQ(Contents(), bytes);
}

TEST_P(DirectAppenderTest, ASinkWritesWhatItIsGivenInOrder) {
  const std::string bytes = Some(2 * kBuffer + 777);
  std::string taken;
  ASSERT_EQ(ftruncate(file_.fd, 100), 0);
  DirectAppender appender(file_, 100, [&](FileBytes given) {
    EXPECT_EQ(given.offset, static_cast<int64_t>(100 + taken.size()));
    taken.append(given.view().data(), given.view().size());
    EXPECT_TRUE(given.WriteTo(file_).ok());
  });
  for (size_t at = 0; at < bytes.size(); at += 60'001) {
    ASSERT_TRUE(
        appender.Append({absl::string_view(bytes).substr(at, 60'001)}).ok());
    if (at % 7 != 0) continue;
    ASSERT_TRUE(appender.Flush().ok());
  }
  ASSERT_TRUE(appender.Flush().ok());
  EXPECT_EQ(taken, bytes);
  EXPECT_EQ(Contents().substr(100), bytes);
}

TEST_P(DirectAppenderTest, FileThatEndsEarlierIsAnError) {
  DirectAppender appender(file_, 5000);
  EXPECT_TRUE(absl::IsDataLoss(appender.Append({"x"})));
}

TEST_P(DirectAppenderTest, WhatWaitsCanBeRead) {
  ASSERT_EQ(ftruncate(file_.fd, 5000), 0);
  DirectAppender appender(file_, 5000);
  ASSERT_TRUE(appender.Append({"one", "two"}).ok());
  std::string out(4, '\0');
  appender.ReadUnwritten(5001, absl::MakeSpan(out));
  EXPECT_EQ(out, "netw");
}

TEST_P(DirectAppenderTest, CallThatFailsTakesNothing) {
  WrittenFile nowhere{.name = "nowhere"};
  DirectAppender appender(nowhere, 0);
  ASSERT_TRUE(appender.Append({"kept"}).ok());
  EXPECT_FALSE(appender.Append({Some(kBuffer)}).ok());
  EXPECT_EQ(appender.end(), 4);
  EXPECT_FALSE(appender.Flush().ok());
  EXPECT_EQ(appender.written(), 0);
  // Once there is a place for it, nothing is missing.
  nowhere.fd = file_.fd;
  ASSERT_TRUE(appender.Append({" it"}).ok());
  ASSERT_TRUE(appender.Flush().ok());
  EXPECT_EQ(Contents(), "kept it");
}

INSTANTIATE_TEST_SUITE_P(Ways, DirectAppenderTest, ::testing::Bool());

}  // namespace
}  // namespace cairn
