#ifndef CAIRN_CORE_RPC_LARGE_UPLOAD_H_
#define CAIRN_CORE_RPC_LARGE_UPLOAD_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/rpc/hub_channel.h"
#include "core/rpc/part_reader.h"

namespace cairn {

// One blob on its way to the hub through an upload of its own. A large one is
// sent in parts over several connections; whatever breaks, it goes on at the
// committed offset. Without a digest the blob is hashed while it is sent.
class LargeUpload {
 public:
  struct Options {
    const ByteSource* source = nullptr;
    // Where the blob is in the source.
    int64_t offset = 0;
    int64_t size_bytes = 0;
    std::optional<Digest> sha256;
    // Finds the upload that an earlier call, perhaps of another process, began
    // for the same bytes.
    std::string request_id;
    // Which connection a blob takes that is not sent over several.
    int lane = 0;
    // Told the absolute number of bytes that need not be sent any more; from
    // any thread, one at a time.
    std::function<void(int64_t)> reached;
  };

  LargeUpload(HubChannel& hub, Options options);

  // The digest of what the hub now holds.
  absl::StatusOr<Digest> Run();

 private:
  absl::StatusOr<v1::Upload> Begin();
  // Sends from the committed offset to the end.
  absl::StatusOr<v1::Upload> SendRound(const v1::Upload& upload);
  // Everything into the upload; its last known state.
  absl::StatusOr<v1::Upload> Send();
  // What to do after a round failed; OK: try again.
  absl::Status Recover(const v1::Upload& upload, const absl::Status& failure);
  absl::StatusOr<Digest> Hash();
  // Of an upload that is gone: whether its bytes are here, as another process
  // finished it.
  absl::StatusOr<bool> IsHere();
  void Reached(int64_t bytes);

  HubChannel& hub_;
  const Options options_;
  PartReader reader_;
  int lanes_;
  std::optional<Digest> digest_;
  bool has_begun_anew_ = false;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_LARGE_UPLOAD_H_
