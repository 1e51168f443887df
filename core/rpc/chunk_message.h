#ifndef CAIRN_CORE_RPC_CHUNK_MESSAGE_H_
#define CAIRN_CORE_RPC_CHUNK_MESSAGE_H_

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace cairn {

// The bytes of a chunk where the transport put them: in pieces, kept while
// this lives.
class ChunkBytes {
 public:
  ChunkBytes() = default;
  ChunkBytes(ChunkBytes&&) = default;
  ChunkBytes& operator=(ChunkBytes&&) = default;

  absl::Span<const absl::string_view> pieces() const { return pieces_; }
  int64_t size() const { return size_; }
  uint32_t Crc32c() const;

 private:
  friend absl::Status ParseBesideChunk(const grpc::ByteBuffer& wire,
                                       int chunk_field,
                                       google::protobuf::MessageLite& message,
                                       ChunkBytes& chunk);

  std::vector<grpc::Slice> slices_;
  std::vector<absl::string_view> pieces_;
  int64_t size_ = 0;
};

// Memory to fill before it is sent.
class NewSlice {
 public:
  explicit NewSlice(size_t size) : slice_(size) {}
  // grpc::Slice shows its bytes as const, as others may share them.
  absl::Span<char> bytes() const {
    return {reinterpret_cast<char*>(const_cast<uint8_t*>(slice_.begin())),
            slice_.size()};
  }
  const grpc::Slice& slice() const { return slice_; }

 private:
  const grpc::Slice slice_;
};

// A message with a large `bytes` field, to the wire and back, as protobuf
// would do it but without copying those bytes. `chunk_field` is the number of
// the field; in `message` itself it stays empty.
grpc::ByteBuffer SerializeWithChunk(
    const google::protobuf::MessageLite& message, int chunk_field,
    const grpc::Slice& chunk);
// INVALID_ARGUMENT for what is no such message.
absl::Status ParseBesideChunk(const grpc::ByteBuffer& wire, int chunk_field,
                              google::protobuf::MessageLite& message,
                              ChunkBytes& chunk);

// The same for messages without a chunk.
grpc::ByteBuffer SerializeMessage(const google::protobuf::MessageLite& message);
absl::Status ParseMessage(const grpc::ByteBuffer& wire,
                          google::protobuf::MessageLite& message);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_CHUNK_MESSAGE_H_
