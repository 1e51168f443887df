#include "core/rpc/chunk_message.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"

namespace cairn {
namespace {

constexpr int kField = v1::ReadResponse::kChunkFieldNumber;

std::string Joined(const ChunkBytes& chunk) {
  std::string out;
  for (absl::string_view piece : chunk.pieces()) {
    out.append(piece.data(), piece.size());
  }
  return out;
}

std::string Bytes(const grpc::ByteBuffer& wire) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(wire.Dump(&slices).ok());
  std::string out;
  for (const grpc::Slice& slice : slices) {
    out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return out;
}

// `bytes` as a transport hands them over: in slices of `step` bytes.
grpc::ByteBuffer Wire(const std::string& bytes, size_t step) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += step) {
    slices.emplace_back(bytes.substr(at, step));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

v1::ReadResponse Head() {
  v1::ReadResponse head;
  head.set_offset(int64_t{5} << 40);
  head.set_crc32c(0xfedcba98);
  head.set_size_bytes(int64_t{6} << 40);
  head.set_sha256(Digest::Of("whole").hex());
  return head;
}

TEST(ChunkMessageTest, IsWhatProtobufWrites) {
  for (size_t size : {0, 1, 127, 128, 100'000}) {
    const std::string chunk(size, 'c');
    v1::ReadResponse parsed;
    ASSERT_TRUE(parsed.ParseFromString(
        Bytes(SerializeWithChunk(Head(), kField, grpc::Slice(chunk)))));
    EXPECT_EQ(parsed.chunk(), chunk);
    parsed.clear_chunk();
    EXPECT_EQ(parsed.SerializeAsString(), Head().SerializeAsString());
  }
}

TEST(ChunkMessageTest, ReadsWhatProtobufWritesHoweverItIsCut) {
  v1::ReadResponse whole = Head();
  for (size_t size : {0, 1, 200, 3000}) {
    whole.set_chunk(std::string(size, 'x') + "end");
    const std::string bytes = whole.SerializeAsString();
    for (size_t step : {1, 2, 7, 64, 1 << 20}) {
      v1::ReadResponse head;
      ChunkBytes chunk;
      ASSERT_TRUE(
          ParseBesideChunk(Wire(bytes, step), kField, head, chunk).ok());
      EXPECT_EQ(Joined(chunk), whole.chunk());
      EXPECT_EQ(chunk.size(), static_cast<int64_t>(whole.chunk().size()));
      EXPECT_EQ(chunk.Crc32c(), Crc32c(whole.chunk()));
      EXPECT_EQ(head.SerializeAsString(), Head().SerializeAsString());
    }
  }
}

TEST(ChunkMessageTest, PiecesOutliveTheBufferTheyCameIn) {
  v1::ReadResponse whole;
  whole.set_chunk("kept");
  auto wire = std::make_unique<grpc::ByteBuffer>(
      Wire(whole.SerializeAsString(), 2));
  v1::ReadResponse head;
  ChunkBytes chunk;
  ASSERT_TRUE(ParseBesideChunk(*wire, kField, head, chunk).ok());
  wire.reset();
  const ChunkBytes moved = std::move(chunk);
  EXPECT_EQ(Joined(moved), "kept");
}

TEST(ChunkMessageTest, TheLastOfTwoChunksCountsAsForProtobuf) {
  v1::ReadResponse one, two;
  one.set_chunk("first");
  two.set_chunk("second");
  v1::ReadResponse head;
  ChunkBytes chunk;
  ASSERT_TRUE(
      ParseBesideChunk(
          Wire(one.SerializeAsString() + two.SerializeAsString(), 3), kField,
          head, chunk)
          .ok());
  EXPECT_EQ(Joined(chunk), "second");
}

TEST(ChunkMessageTest, TakesFieldsOfALaterVersion) {
  v1::ReadResponse head;
  ChunkBytes chunk;
  const std::string unknown = "\xa0\x06\x05" "\xa2\x06\x02hi"
                              "\xa5\x06\x01\x02\x03\x04"
                              "\xa1\x06\x01\x02\x03\x04\x05\x06\x07\x08";
  ASSERT_TRUE(ParseBesideChunk(Wire(Head().SerializeAsString() + unknown, 5),
                               kField, head, chunk)
                  .ok());
  EXPECT_EQ(head.offset(), Head().offset());
}

TEST(ChunkMessageTest, RefusesWhatIsCutOffOrNoMessage) {
  v1::ReadResponse whole = Head();
  whole.set_chunk(std::string(300, 'x'));
  const std::string bytes = whole.SerializeAsString();
  v1::ReadResponse head;
  ChunkBytes chunk;
  int refused = 0;
  for (size_t size = 1; size < bytes.size(); ++size) {
    const std::string cut = bytes.substr(0, size);
    const bool is_taken =
        ParseBesideChunk(Wire(cut, 16), kField, head, chunk).ok();
    EXPECT_EQ(is_taken, v1::ReadResponse().ParseFromString(cut)) << size;
    refused += is_taken ? 0 : 1;
  }
  EXPECT_GT(refused, 300);
  for (const char* bad :
       {"\xff\xff\xff\xff\xff\xff", "\x07", "\x12\xff\xff\x7f", "\x13\x14",
        "\x12\xff\xff\xff\xff\x0f"}) {
    EXPECT_FALSE(ParseBesideChunk(Wire(bad, 3), kField, head, chunk).ok());
  }
  EXPECT_FALSE(
      ParseBesideChunk(grpc::ByteBuffer(), kField, head, chunk).ok());
}

}  // namespace
}  // namespace cairn
