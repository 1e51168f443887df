#ifndef CAIRN_SERVER_RELEASE_FILE_EXPORT_H_
#define CAIRN_SERVER_RELEASE_FILE_EXPORT_H_

#include <string>

#include "absl/status/status.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// Writes all bytes of a source to a new file, durably, hashing them as they
// are read, on `threads` threads with 2 MiB each. DATA_LOSS naming the file
// when their SHA-256 is not `sha256`.
absl::Status ExportFile(const ByteSource& source, const std::string& sha256,
                        const std::string& path, int threads);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_FILE_EXPORT_H_
