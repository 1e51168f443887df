#include "merge/engine/tensor_stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace cairn {
namespace {

constexpr size_t kBufferBytes = 4 * WriteBehind::kPage;

std::string SomeBytes(size_t count, std::mt19937::result_type seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

class TensorStreamTest : public ::testing::TestWithParam<bool> {
 protected:
  TensorStreamTest() : path_(testing::TempDir() + "/tensor_stream_test") {
    file_.name = "out.safetensors";
    file_.fd = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (GetParam()) file_.direct_fd = OpenDirect(path_);
  }
  ~TensorStreamTest() override {
    close(file_.fd);
    unlink(path_.c_str());
  }

  const std::string path_;
  WrittenFile file_;
};

TEST_P(TensorStreamTest, PutsTensorsSideBySideWhateverTheirPlaces) {
  // Neither whole pages nor apart from each other by any.
  const std::vector<size_t> sizes = {3,     5000,   0,     4096, 77777,
                                     16384, 100001, 12288, 1};
  std::mt19937 random(5);
  std::string whole = SomeBytes(72, 1);  // what comes before all tensors
  ASSERT_TRUE(WriteAt(file_.fd, 0, whole, path_).ok());
  WriteBehind disk(static_cast<int>(sizes.size()) + 1, kBufferBytes);
  std::vector<std::string> contents;
  std::vector<std::unique_ptr<TensorStream>> streams;
  std::vector<TensorStream*> pointers;
  for (size_t size : sizes) {
    contents.push_back(SomeBytes(size, random()));
    streams.push_back(std::make_unique<TensorStream>(
        disk, TensorPlace{.file = &file_,
                          .begin = static_cast<int64_t>(whole.size()),
                          .size = static_cast<int64_t>(size)}));
    pointers.push_back(streams.back().get());
    whole += contents.back();
  }
  std::vector<size_t> done(sizes.size());
  for (bool is_done = false; !is_done;) {
    is_done = true;
    for (size_t t = 0; t < sizes.size(); ++t) {
      const size_t left = sizes[t] - done[t];
      if (left == 0) continue;
      const size_t count = std::min<size_t>(left, 1 + random() % 30000);
      streams[t]->Append(
          absl::MakeConstSpan(contents[t]).subspan(done[t], count));
      done[t] += count;
      is_done = false;
    }
    TensorStream::HashTogether(pointers);
  }
  for (size_t t = 0; t < sizes.size(); ++t) {
    EXPECT_EQ(streams[t]->Finish(), Digest::Of(contents[t])) << t;
  }
  ASSERT_TRUE(disk.Wait().ok());
  EXPECT_EQ(ReadFile(path_).value(), whole);
}

TEST_P(TensorStreamTest, GivesRoomForMoreThanABufferInParts) {
  WriteBehind disk(1, kBufferBytes);
  const std::string content = SomeBytes(10 * kBufferBytes + 11, 9);
  TensorStream stream(disk, {.file = &file_,
                             .begin = 8,
                             .size = static_cast<int64_t>(content.size())});
  for (size_t at = 0; at < content.size();) {
    const absl::Span<char> room = stream.Room(content.size() - at);
    ASSERT_FALSE(room.empty());
    std::copy_n(content.data() + at, room.size(), room.data());
    stream.Fill(room.size());
    at += room.size();
  }
  EXPECT_EQ(stream.Finish(), Digest::Of(content));
  ASSERT_TRUE(disk.Wait().ok());
  EXPECT_EQ(ReadFile(path_).value().substr(8), content);
}

TEST_P(TensorStreamTest, TellsThatTheDiskTookNothing) {
  WrittenFile unwritable;
  unwritable.name = "out.safetensors";
  unwritable.fd = open(path_.c_str(), O_RDONLY);
  WriteBehind disk(2, kBufferBytes);
  const std::string content = SomeBytes(20 * kBufferBytes, 9);
  TensorStream stream(disk, {.file = &unwritable,
                             .begin = 0,
                             .size = static_cast<int64_t>(content.size())});
  stream.Append(content);
  (void)stream.Finish();
  const absl::Status status = disk.Wait();
  EXPECT_NE(status.message().find("write out.safetensors"), std::string::npos)
      << status;
  EXPECT_EQ(stream.status(), status);
  close(unwritable.fd);
}

TEST_P(TensorStreamTest, GivesItsBufferBackWhenItIsAbandoned) {
  WriteBehind disk(1, kBufferBytes);
  for (int i = 0; i < 3; ++i) {
    TensorStream stream(disk, {.file = &file_, .begin = 0, .size = 100});
    stream.Append(SomeBytes(10, 1));
  }
  EXPECT_TRUE(disk.Wait().ok());
}

INSTANTIATE_TEST_SUITE_P(PastThePageCacheAndThroughIt, TensorStreamTest,
                         ::testing::Bool());

}  // namespace
}  // namespace cairn
