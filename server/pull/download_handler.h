#ifndef CAIRN_SERVER_PULL_DOWNLOAD_HANDLER_H_
#define CAIRN_SERVER_PULL_DOWNLOAD_HANDLER_H_

#include <atomic>
#include <cstdint>

#include "cairn/v1/transfer.grpc.pb.h"
#include "core/rpc/stream_gate.h"
#include "server/auth/authenticated_call.h"
#include "server/pull/download_resolver.h"

namespace cairn {

// DownloadService over a DownloadResolver: chunks with their offset and
// CRC32C, one in flight a stream. Messages are made by hand, so that a chunk is
// sent from where it was read. Everything given must outlive the server that it
// is registered with.
class DownloadHandler
    : public v1::DownloadService::WithRawCallbackMethod_Read<
          v1::DownloadService::Service> {
 public:
  DownloadHandler(const DownloadResolver& resolver, CallEnvironment calls,
                  StreamGate& gate)
      : resolver_(resolver), calls_(calls), gate_(gate) {}

  // Takes a v1::ReadRequest and sends v1::ReadResponses.
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Read(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;

  // Bytes sent since the start, for metrics.
  int64_t sent_bytes() const { return sent_bytes_; }

 private:
  class ChunkSource;

  const DownloadResolver& resolver_;
  const CallEnvironment calls_;
  StreamGate& gate_;
  std::atomic<int64_t> sent_bytes_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_PULL_DOWNLOAD_HANDLER_H_
