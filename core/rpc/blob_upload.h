#ifndef CAIRN_CORE_RPC_BLOB_UPLOAD_H_
#define CAIRN_CORE_RPC_BLOB_UPLOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/digest.h"
#include "core/rpc/hub_channel.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// A blob to send: a range of a source whose digest is known.
struct OutgoingBlob {
  Digest sha256;
  int64_t size_bytes = 0;
  std::shared_ptr<const ByteSource> source;
  // Where the blob begins in the source.
  int64_t offset = 0;
};

// Told of bytes that need not be sent any more: sent now, or known to the hub
// already; negative for some that must be sent again. One call at a time, from
// any thread.
using TransferProgress = std::function<void(int64_t bytes)>;

// Makes the hub hold all `blobs`: asks which it lacks, sends small ones in
// batches and large ones through uploads that resume at the committed offset,
// also those that an earlier process began. Broken connections are resumed as
// long as bytes get through, then tried for a while more; UNAVAILABLE at the
// end. Memory: one batch of at most 3 MiB, or 40 MiB of parts.
absl::Status UploadBlobs(HubChannel& hub, absl::Span<const OutgoingBlob> blobs,
                         const TransferProgress& progress = nullptr);

// Sends all of a source whose digest is not known yet, hashing it on the way,
// and returns the digest. A later call with the same `resume_key` (at most 128
// characters, made of what identifies the bytes) goes on where this one was
// cut off, also in another process. Otherwise as UploadBlobs().
absl::StatusOr<Digest> UploadUnhashed(
    HubChannel& hub, const ByteSource& source, const std::string& resume_key,
    const TransferProgress& progress = nullptr);

// Whether the hub holds a blob that the caller sent before.
absl::StatusOr<bool> IsBlobKnown(HubChannel& hub, const Digest& sha256);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_BLOB_UPLOAD_H_
