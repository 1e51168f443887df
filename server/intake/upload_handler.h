#ifndef CAIRN_SERVER_INTAKE_UPLOAD_HANDLER_H_
#define CAIRN_SERVER_INTAKE_UPLOAD_HANDLER_H_

#include <atomic>
#include <cstdint>

#include "cairn/v1/transfer.grpc.pb.h"
#include "core/rpc/stream_gate.h"
#include "server/auth/authenticated_call.h"
#include "server/intake/upload_sessions.h"

namespace cairn {

// UploadService over UploadSessions. Messages with chunks are read by hand, so
// that their bytes are stored from where they came. Everything given must
// outlive the server that it is registered with.
class UploadHandler
    : public v1::UploadService::WithRawCallbackMethod_WriteUpload<
          v1::UploadService::CallbackService> {
 public:
  UploadHandler(UploadSessions& sessions, CallEnvironment calls,
                StreamGate& gate)
      : sessions_(sessions), calls_(calls), gate_(gate) {}

  grpc::ServerUnaryReactor* BeginUpload(grpc::CallbackServerContext* context,
                                        const v1::BeginUploadRequest* request,
                                        v1::Upload* response) override;
  // Takes v1::WriteUploadRequests and answers with a v1::Upload.
  grpc::ServerReadReactor<grpc::ByteBuffer>* WriteUpload(
      grpc::CallbackServerContext* context,
      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetUpload(grpc::CallbackServerContext* context,
                                      const v1::GetUploadRequest* request,
                                      v1::Upload* response) override;
  grpc::ServerUnaryReactor* FinishUpload(grpc::CallbackServerContext* context,
                                         const v1::FinishUploadRequest* request,
                                         v1::Blob* response) override;
  grpc::ServerUnaryReactor* CancelUpload(
      grpc::CallbackServerContext* context,
      const v1::CancelUploadRequest* request,
      v1::CancelUploadResponse* response) override;
  grpc::ServerUnaryReactor* BatchUpload(
      grpc::CallbackServerContext* context,
      const v1::BatchUploadRequest* request,
      v1::BatchUploadResponse* response) override;
  grpc::ServerUnaryReactor* FindMissing(
      grpc::CallbackServerContext* context,
      const v1::FindMissingRequest* request,
      v1::FindMissingResponse* response) override;

  // Bytes received since the start, for metrics.
  int64_t received_bytes() const { return received_bytes_; }

 private:
  class ChunkSink;

  UploadSessions& sessions_;
  const CallEnvironment calls_;
  StreamGate& gate_;
  std::atomic<int64_t> received_bytes_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_UPLOAD_HANDLER_H_
