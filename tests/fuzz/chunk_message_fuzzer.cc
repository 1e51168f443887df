// Any bytes as messages of the transfer services: what is read without
// copying is what protobuf reads, in whatever slices the bytes come. The
// first byte is the length of a slice.
#include <grpcpp/support/byte_buffer.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cairn/v1/transfer.pb.h"
#include "core/base/log.h"
#include "core/rpc/chunk_message.h"

namespace {

grpc::ByteBuffer Wire(const std::string& bytes, size_t step) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < bytes.size(); at += step) {
    slices.emplace_back(bytes.substr(at, step));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

template <typename Message>
void Check(const std::string& bytes, size_t step, int field) {
  const grpc::ByteBuffer wire = Wire(bytes, step);
  Message whole;
  const bool is_message = whole.ParseFromString(bytes);
  Message read;
  CAIRN_CHECK(cairn::ParseMessage(wire, read).ok() == is_message);
  Message head;
  cairn::ChunkBytes chunk;
  // It refuses groups, which protobuf skips.
  if (!cairn::ParseBesideChunk(wire, field, head, chunk).ok()) return;
  CAIRN_CHECK(is_message);
  std::string joined;
  for (absl::string_view piece : chunk.pieces()) {
    joined.append(piece.data(), piece.size());
  }
  CAIRN_CHECK(static_cast<int64_t>(joined.size()) == chunk.size());
  CAIRN_CHECK(joined == whole.chunk());
  CAIRN_CHECK(head.chunk().empty());
  whole.clear_chunk();
  CAIRN_CHECK(head.SerializeAsString() == whole.SerializeAsString());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const size_t step = std::max<size_t>(data[0], 1);
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  Check<cairn::v1::WriteUploadRequest>(
      bytes, step, cairn::v1::WriteUploadRequest::kChunkFieldNumber);
  Check<cairn::v1::ReadResponse>(bytes, step,
                                 cairn::v1::ReadResponse::kChunkFieldNumber);
  return 0;
}
