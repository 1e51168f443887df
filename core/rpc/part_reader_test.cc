#include "core/rpc/part_reader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "core/rpc/limits.h"

namespace cairn {
namespace {

std::string SomeBytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>((i * 2654435761U) >> 13);
  }
  return bytes;
}

// Everything that is handed out, which begins at `*from`.
std::string Drain(PartReader& reader, int64_t* from) {
  std::string out;
  *from = -1;
  while (auto part = reader.Next()) {
    if (*from < 0) *from = part->offset;
    EXPECT_EQ(part->offset, *from + static_cast<int64_t>(out.size()));
    for (const Part::Chunk& chunk : part->chunks) {
      EXPECT_LE(chunk.bytes.size(), kChunkBytes);
      out.append(reinterpret_cast<const char*>(chunk.bytes.begin()),
                 chunk.bytes.size());
    }
    reader.GiveBack(std::move(part));
  }
  return out;
}

class PartReaderTest : public ::testing::Test {
 protected:
  const std::string bytes_ =
      SomeBytes(5 * PartReader::kPartBytes + kChunkBytes + 17);
  const int64_t size_ = static_cast<int64_t>(bytes_.size());
  std::unique_ptr<ByteSource> source_ = MakeMemorySource(bytes_);
};

TEST_F(PartReaderTest, HandsOutEverythingInOrderAndHashesIt) {
  PartReader reader(*source_, {.size_bytes = size_,
                               .hashing = PartReader::Hashing::kOnTheWay,
                               .parts_max = 2});
  reader.Start(0);
  int64_t from;
  EXPECT_EQ(Drain(reader, &from), bytes_);
  EXPECT_EQ(from, 0);
  auto digest = reader.FinishHash();
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Digest::Of(bytes_));
}

TEST_F(PartReaderTest, HashesWhatNeedNotBeSent) {
  const int64_t committed = PartReader::kPartBytes + 12'345;
  PartReader reader(*source_, {.size_bytes = size_,
                               .hashing = PartReader::Hashing::kOnTheWay});
  reader.Start(committed);
  int64_t from;
  EXPECT_EQ(Drain(reader, &from),
            bytes_.substr(static_cast<size_t>(committed)));
  EXPECT_EQ(from, committed);
  EXPECT_EQ(*reader.FinishHash(), Digest::Of(bytes_));
}

TEST_F(PartReaderTest, GoesBackWithoutHashingTwice) {
  PartReader reader(*source_, {.size_bytes = size_,
                               .hashing = PartReader::Hashing::kOnTheWay,
                               .parts_max = 3});
  reader.Start(0);
  for (int i = 0; i < 3; ++i) {
    auto part = reader.Next();
    ASSERT_NE(part, nullptr);
    reader.GiveBack(std::move(part));
  }
  reader.Start(1000);
  int64_t from;
  EXPECT_EQ(Drain(reader, &from), bytes_.substr(1000));
  EXPECT_EQ(*reader.FinishHash(), Digest::Of(bytes_));
}

TEST_F(PartReaderTest, HashCoversWhatNobodyAskedFor) {
  PartReader reader(*source_, {.size_bytes = size_,
                               .hashing = PartReader::Hashing::kOnTheWay});
  EXPECT_EQ(*reader.FinishHash(), Digest::Of(bytes_));
}

TEST_F(PartReaderTest, ReadsARangeOfItsSource) {
  PartReader reader(*source_, {.offset = 7, .size_bytes = 1000});
  reader.Start(0);
  int64_t from;
  EXPECT_EQ(Drain(reader, &from), bytes_.substr(7, 1000));
}

TEST_F(PartReaderTest, StopFreesThoseThatWait) {
  PartReader reader(*source_, {.size_bytes = size_, .parts_max = 1});
  reader.Start(0);
  auto held = reader.Next();
  ASSERT_NE(held, nullptr);
  std::jthread waiter([&] { EXPECT_EQ(reader.Next(), nullptr); });
  reader.RequestStop();
}

TEST_F(PartReaderTest, SourceThatCannotBeReadIsReported) {
  PartReader reader(*source_, {.size_bytes = size_ + 1});
  reader.Start(0);
  int64_t from;
  Drain(reader, &from);
  EXPECT_TRUE(absl::IsOutOfRange(reader.status())) << reader.status();
}

}  // namespace
}  // namespace cairn
