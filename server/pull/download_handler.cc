#include "server/pull/download_handler.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/status_macros.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/limits.h"
#include "core/rpc/server_call.h"
#include "core/rpc/server_stream.h"

namespace cairn {
namespace {

// The end of the range that a request asks for, in a whole of `size` bytes.
absl::StatusOr<int64_t> EndOf(const v1::ReadRequest& request, int64_t size) {
  if (request.offset() < 0 || request.limit() < 0) {
    return absl::InvalidArgumentError("offset and limit are not negative");
  }
  if (request.offset() > size) {
    return absl::OutOfRangeError(absl::StrCat("offset ", request.offset(),
                                              " is past the end at ", size));
  }
  if (request.limit() == 0) return size;
  return request.offset() + std::min(request.limit(), size - request.offset());
}

}  // namespace

// Resolves the request at its first step, then reads it chunk by chunk.
class DownloadHandler::ChunkSource : public StreamSource<grpc::ByteBuffer> {
 public:
  ChunkSource(DownloadHandler& handler, std::string authorization,
              v1::ReadRequest request)
      : handler_(handler),
        authorization_(std::move(authorization)),
        request_(std::move(request)) {}

  absl::StatusOr<Step> Next(grpc::ByteBuffer& message) override {
    // Frees the last chunk, whose memory the next one can have.
    message.Clear();
    v1::ReadResponse response;
    const bool is_first = download_.source == nullptr;
    if (is_first) {
      CAIRN_RETURN_IF_ERROR(Open());
      response.set_size_bytes(download_.source->size());
      response.set_sha256(download_.sha256);
    } else if (next_ == end_) {
      return Step::kEnd;
    }
    const auto size = static_cast<size_t>(std::min(kChunkBytes, end_ - next_));
    const NewSlice chunk(size);
    CAIRN_RETURN_IF_ERROR(download_.source->ReadAt(next_, chunk.bytes()));
    response.set_offset(next_);
    response.set_crc32c(
        Crc32c(absl::string_view(chunk.bytes().data(), size)));
    message = SerializeWithChunk(
        response, v1::ReadResponse::kChunkFieldNumber, chunk.slice());
    next_ += static_cast<int64_t>(size);
    handler_.sent_bytes_ += static_cast<int64_t>(size);
    return Step::kMessage;
  }

 private:
  absl::Status Open() {
    CAIRN_ASSIGN_OR_RETURN(Caller caller,
                           handler_.calls_.tokens.Identify(authorization_));
    CAIRN_ASSIGN_OR_RETURN(download_,
                           handler_.resolver_.Resolve(caller, request_));
    CAIRN_ASSIGN_OR_RETURN(end_, EndOf(request_, download_.source->size()));
    next_ = request_.offset();
    return absl::OkStatus();
  }

  DownloadHandler& handler_;
  const std::string authorization_;
  const v1::ReadRequest request_;
  Download download_;
  int64_t next_ = 0;
  int64_t end_ = 0;
};

grpc::ServerWriteReactor<grpc::ByteBuffer>* DownloadHandler::Read(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  auto pass = gate_.Admit(context, CallerKey(*context));
  if (!pass.ok()) return RefuseSending<grpc::ByteBuffer>(pass.status());
  v1::ReadRequest read;
  const absl::Status parsed = ParseMessage(*request, read);
  if (!parsed.ok()) return RefuseSending<grpc::ByteBuffer>(parsed);
  return SendStream<grpc::ByteBuffer>(
      context, calls_.pool,
      std::make_unique<ChunkSource>(*this, AuthorizationOf(*context),
                                    std::move(read)),
      *std::move(pass));
}

}  // namespace cairn
