#ifndef CAIRN_CLIENT_HASH_SOURCE_H_
#define CAIRN_CLIENT_HASH_SOURCE_H_

#include "absl/status/statusor.h"
#include "core/base/digest.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// The SHA-256 of all bytes, read in tiles of 1 MiB.
absl::StatusOr<Digest> HashSource(const ByteSource& source);

}  // namespace cairn

#endif  // CAIRN_CLIENT_HASH_SOURCE_H_
