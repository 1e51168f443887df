#include "core/rpc/chunk_message.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;

// Of protobuf's encoding.
enum WireType : uint32_t {
  kVarint = 0,
  kFixed64 = 1,
  kLengthDelimited = 2,
  kFixed32 = 5,
};
constexpr int kWireTypeBits = 3;

uint32_t ChunkTag(int field) {
  return static_cast<uint32_t>(field) << kWireTypeBits | kLengthDelimited;
}

// Slices as protobuf reads its input.
class SliceStream : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit SliceStream(absl::Span<const grpc::Slice> slices)
      : slices_(slices) {}

  bool Next(const void** data, int* size) override {
    while (at_ < slices_.size() && used_ == slices_[at_].size()) {
      ++at_;
      used_ = 0;
    }
    if (at_ == slices_.size()) return false;
    *data = slices_[at_].begin() + used_;
    *size = static_cast<int>(slices_[at_].size() - used_);
    used_ = slices_[at_].size();
    passed_ += *size;
    return true;
  }
  void BackUp(int count) override {
    used_ -= static_cast<size_t>(count);
    passed_ -= count;
  }
  bool Skip(int count) override {
    const void* data;
    int size;
    while (count > 0 && Next(&data, &size)) {
      if (size > count) BackUp(size - count);
      count -= std::min(size, count);
    }
    return count == 0;
  }
  int64_t ByteCount() const override { return passed_; }

 private:
  const absl::Span<const grpc::Slice> slices_;
  size_t at_ = 0;
  size_t used_ = 0;  // of slices_[at_]
  int64_t passed_ = 0;
};

// The parser of messages takes no number of more bytes for a tag or a length,
// the stream does.
constexpr int kNumberBytesMax = 5;

// The next tag; 0 at the end and for a broken one.
uint32_t ReadTag(CodedInputStream& in) {
  const int begin = in.CurrentPosition();
  const uint32_t tag = in.ReadTag();
  return in.CurrentPosition() - begin > kNumberBytesMax ? 0 : tag;
}

// False for a broken length.
bool ReadLength(CodedInputStream& in, uint32_t& length) {
  const int begin = in.CurrentPosition();
  uint64_t wide = 0;
  if (!in.ReadVarint64(&wide) || wide > INT32_MAX) return false;
  length = static_cast<uint32_t>(wide);
  return in.CurrentPosition() - begin <= kNumberBytesMax;
}

// Copies the value of a field that is not the chunk; false for a broken one.
bool CopyField(CodedInputStream& in, uint32_t tag, CodedOutputStream& out) {
  out.WriteTag(tag);
  uint64_t wide = 0;
  uint32_t narrow = 0;
  std::string bytes;
  switch (tag & ((1U << kWireTypeBits) - 1)) {
    case kVarint:
      if (!in.ReadVarint64(&wide)) return false;
      out.WriteVarint64(wide);
      return true;
    case kFixed64:
      if (!in.ReadLittleEndian64(&wide)) return false;
      out.WriteLittleEndian64(wide);
      return true;
    case kLengthDelimited:
      if (!ReadLength(in, narrow)) return false;
      if (!in.ReadString(&bytes, static_cast<int>(narrow))) return false;
      out.WriteVarint32(narrow);
      out.WriteString(bytes);
      return true;
    case kFixed32:
      if (!in.ReadLittleEndian32(&narrow)) return false;
      out.WriteLittleEndian32(narrow);
      return true;
    default:
      return false;  // groups, which none of our messages has
  }
}

absl::Status NoMessage(const grpc::ByteBuffer& wire,
                       const google::protobuf::MessageLite& message) {
  return absl::InvalidArgumentError(absl::StrCat("a message of ", wire.Length(),
                                                 " bytes is no ",
                                                 message.GetTypeName()));
}

bool FindPieces(CodedInputStream& in, std::vector<absl::string_view>& pieces) {
  pieces.clear();
  uint32_t left = 0;
  if (!ReadLength(in, left)) return false;
  while (left > 0) {
    const void* data;
    int size;
    if (!in.GetDirectBufferPointer(&data, &size)) return false;
    const uint32_t taken = std::min(left, static_cast<uint32_t>(size));
    pieces.emplace_back(static_cast<const char*>(data), taken);
    if (!in.Skip(static_cast<int>(taken))) return false;
    left -= taken;
  }
  return true;
}

}  // namespace

uint32_t ChunkBytes::Crc32c() const {
  uint32_t crc = 0;
  for (absl::string_view piece : pieces_) crc = cairn::Crc32c(piece, crc);
  return crc;
}

grpc::ByteBuffer SerializeWithChunk(
    const google::protobuf::MessageLite& message, int chunk_field,
    const grpc::Slice& chunk) {
  std::string head = message.SerializeAsString();
  {
    google::protobuf::io::StringOutputStream stream(&head);
    CodedOutputStream out(&stream);
    out.WriteTag(ChunkTag(chunk_field));
    out.WriteVarint32(static_cast<uint32_t>(chunk.size()));
  }
  const std::array<grpc::Slice, 2> slices = {grpc::Slice(head), chunk};
  return grpc::ByteBuffer(slices.data(), slices.size());
}

absl::Status ParseBesideChunk(const grpc::ByteBuffer& wire, int chunk_field,
                              google::protobuf::MessageLite& message,
                              ChunkBytes& chunk) {
  const absl::Status broken = NoMessage(wire, message);
  chunk = ChunkBytes();
  if (!wire.Dump(&chunk.slices_).ok()) return broken;
  SliceStream stream(chunk.slices_);
  std::string rest;
  {
    CodedInputStream in(&stream);
    google::protobuf::io::StringOutputStream rest_stream(&rest);
    CodedOutputStream out(&rest_stream);
    while (const uint32_t tag = ReadTag(in)) {
      const bool is_whole = tag == ChunkTag(chunk_field)
                                ? FindPieces(in, chunk.pieces_)
                                : CopyField(in, tag, out);
      if (!is_whole) return broken;
    }
    if (!in.ConsumedEntireMessage()) return broken;
  }
  if (!message.ParseFromString(rest)) return broken;
  for (absl::string_view piece : chunk.pieces_) {
    chunk.size_ += static_cast<int64_t>(piece.size());
  }
  return absl::OkStatus();
}

grpc::ByteBuffer SerializeMessage(
    const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

absl::Status ParseMessage(const grpc::ByteBuffer& wire,
                          google::protobuf::MessageLite& message) {
  std::vector<grpc::Slice> slices;
  if (wire.Dump(&slices).ok()) {
    SliceStream stream(slices);
    if (message.ParseFromZeroCopyStream(&stream)) return absl::OkStatus();
  }
  return NoMessage(wire, message);
}

}  // namespace cairn
