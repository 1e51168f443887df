#include "server/intake/upload_handler.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/limits.h"
#include "core/rpc/server_call.h"
#include "core/rpc/server_stream.h"

namespace cairn {

// Opens the upload that the first message names, then feeds it.
class UploadHandler::ChunkSink
    : public StreamSink<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  ChunkSink(UploadHandler& handler, std::string authorization)
      : handler_(handler), authorization_(std::move(authorization)) {}

  void Take(grpc::ByteBuffer& wire, Done done) override {
    v1::WriteUploadRequest request;
    absl::Status status = Read(wire, request);
    if (!status.ok()) return done(status);
    handler_.received_bytes_ += chunk_.size();
    // An idle stream keeps no chunk.
    auto let_go = [this, done = std::move(done)](absl::Status taken) mutable {
      chunk_ = ChunkBytes();
      done(std::move(taken));
    };
    stream_->Write(request.offset(),
                   {chunk_.pieces().begin(), chunk_.pieces().end()},
                   request.crc32c(), std::move(let_go));
  }

  void Cancel() override {
    std::shared_ptr<UploadStream> stream;
    {
      MutexLock lock(mutex_);
      is_cancelled_ = true;
      stream = shared_;
    }
    if (stream != nullptr) stream->Cancel();
  }

  absl::StatusOr<grpc::ByteBuffer> End() override {
    if (stream_ == nullptr) {
      return absl::InvalidArgumentError(
          "an upload's stream needs at least one message, which names it");
    }
    CAIRN_ASSIGN_OR_RETURN(v1::Upload upload, stream_->End());
    return SerializeMessage(upload);
  }

 private:
  // Takes the message apart: the chunk stays where it is.
  absl::Status Read(grpc::ByteBuffer& wire, v1::WriteUploadRequest& request) {
    CAIRN_RETURN_IF_ERROR(ParseBesideChunk(
        wire, v1::WriteUploadRequest::kChunkFieldNumber, request, chunk_));
    wire.Clear();
    if (name_.empty()) CAIRN_RETURN_IF_ERROR(Open(request));
    if (request.name().empty() || request.name() == name_) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "the stream writes ", name_, " and cannot go on with ",
        request.name()));
  }
  absl::Status Open(const v1::WriteUploadRequest& request) {
    CAIRN_ASSIGN_OR_RETURN(Caller caller,
                           handler_.calls_.tokens.Identify(authorization_));
    CAIRN_ASSIGN_OR_RETURN(
        auto stream,
        handler_.sessions_.OpenStream(
            caller, request.name(),
            request.shares() ? UploadOrder::kShared : UploadOrder::kAlone));
    name_ = request.name();
    MutexLock lock(mutex_);
    if (is_cancelled_) return absl::CancelledError("the peer is gone");
    shared_ = std::move(stream);
    stream_ = shared_.get();
    return absl::OkStatus();
  }

  UploadHandler& handler_;
  const std::string authorization_;
  std::string name_;
  ChunkBytes chunk_;
  UploadStream* stream_ = nullptr;
  Mutex mutex_;
  bool is_cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  // Shared with Cancel(), which comes while the stream is in use.
  std::shared_ptr<UploadStream> shared_ ABSL_GUARDED_BY(mutex_);
};

grpc::ServerReadReactor<grpc::ByteBuffer>* UploadHandler::WriteUpload(
    grpc::CallbackServerContext* context, grpc::ByteBuffer* response) {
  auto pass = gate_.Admit(context, CallerKey(*context));
  if (!pass.ok()) {
    return RefuseReceiving<grpc::ByteBuffer>(pass.status());
  }
  context->AddInitialMetadata(kStreamOpenKey, "1");
  return ReceiveStream<grpc::ByteBuffer, grpc::ByteBuffer>(
      calls_.pool, response,
      std::make_unique<ChunkSink>(*this, AuthorizationOf(*context)),
      *std::move(pass));
}

grpc::ServerUnaryReactor* UploadHandler::BeginUpload(
    grpc::CallbackServerContext* context, const v1::BeginUploadRequest* request,
    v1::Upload* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::BeginUploadRequest& begin)
          -> absl::StatusOr<v1::Upload> {
        return sessions_.Begin(caller, begin);
      });
}

grpc::ServerUnaryReactor* UploadHandler::GetUpload(
    grpc::CallbackServerContext* context, const v1::GetUploadRequest* request,
    v1::Upload* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller,
             const v1::GetUploadRequest& get) -> absl::StatusOr<v1::Upload> {
        return sessions_.Get(caller, get.name());
      });
}

grpc::ServerUnaryReactor* UploadHandler::FinishUpload(
    grpc::CallbackServerContext* context,
    const v1::FinishUploadRequest* request, v1::Blob* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::FinishUploadRequest& finish)
          -> absl::StatusOr<v1::Blob> {
        return sessions_.Finish(caller, finish);
      });
}

grpc::ServerUnaryReactor* UploadHandler::CancelUpload(
    grpc::CallbackServerContext* context,
    const v1::CancelUploadRequest* request,
    v1::CancelUploadResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::CancelUploadRequest& cancel)
          -> absl::StatusOr<v1::CancelUploadResponse> {
        CAIRN_RETURN_IF_ERROR(sessions_.Cancel(caller, cancel.name()));
        return v1::CancelUploadResponse();
      });
}

grpc::ServerUnaryReactor* UploadHandler::BatchUpload(
    grpc::CallbackServerContext* context, const v1::BatchUploadRequest* request,
    v1::BatchUploadResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::BatchUploadRequest& batch)
          -> absl::StatusOr<v1::BatchUploadResponse> {
        auto stored = sessions_.Batch(caller, batch);
        if (!stored.ok()) return stored.status();
        for (const v1::Blob& blob : stored->blobs()) {
          received_bytes_ += blob.size_bytes();
        }
        return stored;
      });
}

grpc::ServerUnaryReactor* UploadHandler::FindMissing(
    grpc::CallbackServerContext* context, const v1::FindMissingRequest* request,
    v1::FindMissingResponse* response) {
  return HandleCall(
      context, calls_, request, response,
      [this](const Caller& caller, const v1::FindMissingRequest& find)
          -> absl::StatusOr<v1::FindMissingResponse> {
        return sessions_.FindMissing(caller, find);
      });
}

}  // namespace cairn
