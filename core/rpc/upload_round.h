#ifndef CAIRN_CORE_RPC_UPLOAD_ROUND_H_
#define CAIRN_CORE_RPC_UPLOAD_ROUND_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/base/mutex.h"
#include "core/rpc/hub_channel.h"
#include "core/rpc/part_reader.h"

namespace cairn {

// One attempt to send what a reader hands out into an upload, over streams of
// several connections at once, or of one. The first stream that fails ends
// all of them: what was stored is the hub's to say.
class UploadRound {
 public:
  struct Options {
    // uploads/U.
    std::string upload;
    // Connections, from HubChannel::Lane(first_lane) on.
    int lanes = 1;
    int first_lane = 0;
    // Told how many more bytes were sent; one call at a time.
    std::function<void(int64_t)> sent;
  };

  // `reader` is started; both outlive the round.
  UploadRound(HubChannel& hub, PartReader& reader, Options options)
      : hub_(hub), reader_(reader), options_(std::move(options)) {}

  // How much the hub says is committed in the end.
  absl::StatusOr<int64_t> Run();

 private:
  class Member;

  // What became of a stream.
  enum class Ended { kNoMoreParts, kTimeIsUp };

  void Lane(int index);
  absl::StatusOr<Ended> Stream(int index);
  // Sends parts until there are none or the stream has lived for long enough.
  template <typename Writer>
  Ended SendParts(Writer& writer);
  template <typename Writer>
  bool SendPart(Writer& writer, const Part& part);
  void Fail(const absl::Status& status);
  bool has_failed() const;

  HubChannel& hub_;
  PartReader& reader_;
  const Options options_;

  mutable Mutex mutex_;
  std::vector<grpc::ClientContext*> open_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  int64_t committed_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_UPLOAD_ROUND_H_
