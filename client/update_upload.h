#ifndef CAIRN_CLIENT_UPDATE_UPLOAD_H_
#define CAIRN_CLIENT_UPDATE_UPLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "client/credentials.h"
#include "core/rpc/blob_upload.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// What identifies the files of a directory without reading them: their names,
// sizes, inodes and times of change, as 64 hex digits. The same for two calls
// means that the bytes are the same, as far as the file system can tell.
absl::StatusOr<std::string> StampFiles(const std::string& directory);

// Makes the hub hold the files of an update (those that IsUpdateFile() names)
// and describes them. A large file is hashed while it is sent, and goes on
// where an earlier call with the same `stamp` was cut off. One that `home`
// remembers as sent, and that the hub still holds, is only hashed again.
absl::StatusOr<std::vector<v1::File>> UploadUpdateFiles(
    HubChannel& hub, const Home& home, const FileMap& files,
    const std::string& stamp, const TransferProgress& progress);

}  // namespace cairn

#endif  // CAIRN_CLIENT_UPDATE_UPLOAD_H_
