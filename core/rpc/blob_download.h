#ifndef CAIRN_CORE_RPC_BLOB_DOWNLOAD_H_
#define CAIRN_CORE_RPC_BLOB_DOWNLOAD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/rpc/blob_upload.h"
#include "core/rpc/hub_channel.h"
#include "core/tensor/byte_source.h"

namespace cairn::v1 {
class ReadRequest;
}

namespace cairn {

// Takes the next bytes; an error ends the download with it.
using ByteSink = absl::FunctionRef<absl::Status(absl::string_view bytes)>;

// Reads what `request` names, [offset, offset + limit), into `sink` in order.
// Each chunk is checked by its CRC; a broken connection is resumed where it
// broke. DATA_LOSS when the hub sends something else than asked for.
absl::Status Download(HubChannel& hub, const v1::ReadRequest& request,
                      ByteSink sink);

// The whole of what `request` names, at most `bytes_max` bytes (LIMIT_EXCEEDED
// otherwise), checked against `sha256` (64 hex digits) unless that is empty.
absl::StatusOr<std::string> DownloadBytes(HubChannel& hub,
                                          const v1::ReadRequest& request,
                                          absl::string_view sha256,
                                          int64_t bytes_max = 256 << 20);

// Writes the whole of what `request` names to `path`, durably, if its SHA-256
// is `sha256`. A large file comes in ranges over several connections. Works in
// `path` + ".part" (and ".part.have"), which a later call for the same file
// continues. DATA_LOSS when the digest differs; then nothing is left.
absl::Status DownloadFile(HubChannel& hub, const v1::ReadRequest& request,
                          absl::string_view sha256, int64_t size_bytes,
                          const std::string& path,
                          const TransferProgress& progress = nullptr);

// What `request` names as a source that reads ranges from the hub as they are
// asked for; fit for reading forward in pieces of about a MiB. `hub` must
// outlive it.
std::unique_ptr<ByteSource> MakeRemoteSource(HubChannel& hub,
                                             const v1::ReadRequest& request,
                                             int64_t size_bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_BLOB_DOWNLOAD_H_
