#include "core/rpc/range_download.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/impl/rpc_method.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <memory>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/status_macros.h"

namespace cairn {
namespace {

constexpr int64_t kStreamBytes = 64 << 20;
constexpr absl::Duration kStreamDeadline = absl::Minutes(20);
constexpr char kReadMethod[] = "/cairn.v1.DownloadService/Read";

// As the generated stub does it, but with messages as they come.
std::unique_ptr<grpc::ClientReader<grpc::ByteBuffer>> OpenStream(
    grpc::Channel& channel, grpc::ClientContext& context,
    const v1::ReadRequest& request) {
  static const grpc::internal::RpcMethod kRead(
      kReadMethod, grpc::internal::RpcMethod::SERVER_STREAMING);
  return absl::WrapUnique(
      grpc::internal::ClientReaderFactory<grpc::ByteBuffer>::Create(
          &channel, kRead, &context, request));
}

}  // namespace

absl::Status RangeDownload::Take(const grpc::ByteBuffer& wire) {
  v1::ReadResponse response;
  ChunkBytes chunk;
  const absl::Status parsed = ParseBesideChunk(
      wire, v1::ReadResponse::kChunkFieldNumber, response, chunk);
  if (!parsed.ok()) return absl::DataLossError(parsed.message());
  if (end_ < 0 || (response.size_bytes() > 0 && response.size_bytes() < end_)) {
    end_ = response.size_bytes();
  }
  if (chunk.size() == 0) return absl::OkStatus();
  if (response.offset() != next_) {
    return absl::DataLossError(absl::StrCat("the hub sent bytes at offset ",
                                            response.offset(), " instead of ",
                                            next_));
  }
  if (chunk.Crc32c() != response.crc32c()) {
    return absl::DataLossError(
        absl::StrCat("the chunk at offset ", next_,
                     " came with another CRC32C than its bytes have"));
  }
  next_ += chunk.size();
  return sink_(chunk);
}

absl::Status RangeDownload::ReadStream() {
  const std::shared_ptr<grpc::Channel> channel = hub_.Lane(options_.lane);
  request_.set_offset(next_);
  request_.set_limit(end_ < 0 ? kStreamBytes
                              : std::min(kStreamBytes, end_ - next_));
  absl::Status taken;
  absl::Status read = hub_.RunOnce(
      kStreamDeadline, [&](grpc::ClientContext& context) -> grpc::Status {
        auto reader = OpenStream(*channel, context, request_);
        grpc::ByteBuffer wire;
        while (taken.ok() && reader->Read(&wire)) taken = Take(wire);
        if (!taken.ok()) context.TryCancel();
        return reader->Finish();
      });
  CAIRN_RETURN_IF_ERROR(taken);
  return read;
}

absl::Status RangeDownload::Run() {
  Backoff backoff;
  absl::Time give_up = absl::Now() + options_.patience;
  while (!is_done()) {
    const int64_t before = next_;
    absl::Status status = ReadStream();
    if (next_ > before) {
      backoff.Reset();
      give_up = absl::Now() + options_.patience;
    }
    if (status.ok()) {
      if (next_ == before && !is_done()) {
        if (end_ < 0) return absl::OkStatus();  // nothing there: empty
        return absl::DataLossError(absl::StrCat("the hub ended at byte ", next_,
                                                " of ", end_,
                                                " without an error"));
      }
      continue;
    }
    if (!IsTransient(status) &&
        !(absl::IsDeadlineExceeded(status) && next_ > before)) {
      return status;
    }
    const absl::Duration delay = backoff.Next(status);
    if (absl::Now() + delay > give_up) return status;
    CAIRN_RETURN_IF_ERROR(hub_.Sleep(delay));
  }
  return absl::OkStatus();
}

}  // namespace cairn
