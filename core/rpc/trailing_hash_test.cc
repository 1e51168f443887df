#include "core/rpc/trailing_hash.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "cairn/v1/transfer.pb.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kChunk = 256 << 10;

class TrailingHashTest : public ::testing::Test {
 protected:
  TrailingHashTest() : bytes_(static_cast<size_t>(80 * kChunk + 5), '\0') {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::mt19937_64 random(1);
    for (char& c : bytes_) c = static_cast<char>(random());
  }
  ~TrailingHashTest() override { fs::remove_all(folder_); }

  int64_t size() const { return static_cast<int64_t>(bytes_.size()); }
  PartFile Open() {
    auto file = PartFile::Open(folder_ / "file", size());
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  static void Write(PartFile& file, int64_t offset, absl::string_view bytes) {
    DirectAppender appender = file.AppendAt(offset);
    ASSERT_TRUE(appender.Append({bytes}).ok());
    ASSERT_TRUE(appender.Flush().ok());
  }
  absl::string_view ChunkAt(int64_t at) const {
    return absl::string_view(bytes_).substr(static_cast<size_t>(at), kChunk);
  }
  static ChunkBytes Message(absl::string_view bytes) {
    v1::ReadResponse head;
    ChunkBytes chunk;
    constexpr int kField = v1::ReadResponse::kChunkFieldNumber;
    EXPECT_TRUE(ParseBesideChunk(
                    SerializeWithChunk(head, kField,
                                       grpc::Slice(bytes.data(), bytes.size())),
                    kField, head, chunk)
                    .ok());
    return chunk;
  }
  // Writes and offers the chunks in this order.
  absl::StatusOr<Digest> HashOf(const std::vector<int64_t>& order) {
    PartFile file = Open();
    TrailingHash hash(file, size());
    std::vector<int64_t> missing = order;
    std::sort(missing.begin(), missing.end());
    for (int64_t at : order) {
      Write(file, at, ChunkAt(at));
      hash.Offer(at, Message(ChunkAt(at)));
      std::erase(missing, at);
      hash.Advance(missing.empty() ? size() : missing.front());
    }
    return hash.Finish();
  }
  std::vector<int64_t> Offsets() const {
    std::vector<int64_t> offsets;
    for (int64_t at = 0; at < size(); at += kChunk) offsets.push_back(at);
    return offsets;
  }

  const fs::path folder_ = fs::path(::testing::TempDir()) / "cairn-trailing";
  std::string bytes_;
};

TEST_F(TrailingHashTest, OrderDoesNotMatter) {
  const Digest expected = Digest::Of(bytes_);
  std::vector<int64_t> order = Offsets();
  EXPECT_EQ(HashOf(order).value_or(Digest()), expected);
  std::reverse(order.begin(), order.end());
  EXPECT_EQ(HashOf(order).value_or(Digest()), expected);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(2));
  EXPECT_EQ(HashOf(order).value_or(Digest()), expected);
}

TEST_F(TrailingHashTest, WhatAnEarlierAttemptLeftIsReadBack) {
  PartFile file = Open();
  Write(file, 0, bytes_);
  TrailingHash hash(file, size());
  const int64_t found = 60 * kChunk;
  hash.Advance(found);
  for (int64_t at = found; at < size(); at += kChunk) {
    hash.Offer(at, Message(ChunkAt(at)));
    hash.Advance(std::min(size(), at + kChunk));
  }
  EXPECT_EQ(hash.Finish().value_or(Digest()), Digest::Of(bytes_));
}

TEST_F(TrailingHashTest, WhatIsInTheFileMayEndWithinAChunk) {
  PartFile file = Open();
  TrailingHash hash(file, size());
  int64_t front = 0;
  for (int64_t at = 0; at < size(); at += kChunk) {
    hash.Offer(at, Message(ChunkAt(at)));
    front = at + kChunk / 3;
    hash.Advance(std::min(front, size()));
  }
  hash.Advance(size());
  EXPECT_EQ(hash.Finish().value_or(Digest()), Digest::Of(bytes_));
}

TEST_F(TrailingHashTest, StoppedIsCancelled) {
  PartFile file = Open();
  TrailingHash hash(file, size());
  hash.Advance(0);
  hash.Stop();
  EXPECT_TRUE(absl::IsCancelled(hash.Finish().status()));
}

TEST_F(TrailingHashTest, FileThatCannotBeReadBackIsAnError) {
  PartFile file = Open();
  TrailingHash hash(file, size());
  fs::resize_file(folder_ / "file.part", 0);
  hash.Advance(size());
  EXPECT_TRUE(absl::IsDataLoss(hash.Finish().status()));
}

}  // namespace
}  // namespace cairn
