#ifndef CAIRN_CORE_RPC_RANGE_DOWNLOAD_H_
#define CAIRN_CORE_RPC_RANGE_DOWNLOAD_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cairn/v1/transfer.pb.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/hub_channel.h"

namespace cairn {

// Reads a range of what a request names, in order, over one connection. Each
// chunk is checked by its CRC; a broken connection is resumed where it broke.
class RangeDownload {
 public:
  struct Options {
    // Of HubChannel::Lane().
    int lane = 0;
    // How long a failure to reach the hub is tried again without a byte
    // getting through.
    absl::Duration patience = absl::Seconds(25);
  };
  // Takes the next bytes; an error ends the download with it.
  using Sink = absl::FunctionRef<absl::Status(ChunkBytes& bytes)>;

  // `sink` must outlive it. The range is [offset, offset + limit) of `request`,
  // or all from the offset on when there is no limit.
  RangeDownload(HubChannel& hub, const v1::ReadRequest& request, Sink sink,
                const Options& options)
      : hub_(hub),
        request_(request),
        sink_(sink),
        options_(options),
        next_(request.offset()),
        end_(request.limit() > 0 ? request.offset() + request.limit() : -1) {}
  RangeDownload(HubChannel& hub, const v1::ReadRequest& request, Sink sink)
      : RangeDownload(hub, request, sink, Options()) {}

  // DATA_LOSS when the hub sends something else than asked for.
  absl::Status Run();

  // The first byte that was not taken yet.
  int64_t next() const { return next_; }

 private:
  // Reads one stream of bounded length.
  absl::Status ReadStream();
  absl::Status Take(const grpc::ByteBuffer& wire);
  bool is_done() const { return end_ >= 0 && next_ >= end_; }

  HubChannel& hub_;
  v1::ReadRequest request_;
  const Sink sink_;
  const Options options_;
  int64_t next_;
  // Past the last byte; -1 until the hub told the size.
  int64_t end_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_RANGE_DOWNLOAD_H_
