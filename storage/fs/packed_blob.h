#ifndef CAIRN_STORAGE_FS_PACKED_BLOB_H_
#define CAIRN_STORAGE_FS_PACKED_BLOB_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "core/base/digest.h"
#include "core/tensor/byte_source.h"
#include "storage/fs/posix_file.h"

// A blob kept with fewer bytes: blocks of kPackedBlockBytes, each coded by
// itself (core/codec), so that a read decodes only what it touches. All
// numbers are little-endian:
//
//   0  8   magic
//   8  8   plain size
//   16 4   bytes of a block; the last one may be shorter
//   20 4   number of blocks
//   24 32  SHA-256 of the plain bytes
//   56 4   CRC-32C of the index
//   60 4   CRC-32C of the 60 bytes before
//   64 8n  the index: coded length and CRC-32C of each coded block
//   ...    the coded blocks, one after the other

namespace cairn {

inline constexpr int64_t kPackedBlockBytes = 64 << 10;

// What a quick look at a few places of a blob says.
struct PackProbe {
  bool is_worth = false;
  // Bytes of an element, as far as can be told.
  int width = 1;
};
absl::StatusOr<PackProbe> ProbePacking(const ByteSource& plain);

// Writes the packed form of `plain` to an empty file and reads it back whole.
// False when it is not short enough to be worth it; the file is then rubbish.
// DATA_LOSS naming the blob when `plain` does not have its digest; CANCELLED
// once `go_on` says false.
absl::StatusOr<bool> WritePacked(const ByteSource& plain, const Digest& digest,
                                 int width, const std::function<bool()>& go_on,
                                 PosixFile& out);

// The plain size of a packed file, from its header alone. DATA_LOSS naming the
// blob when that is damaged.
absl::StatusOr<int64_t> PackedPlainSize(const PosixFile& file,
                                        const Digest& digest);

// Reads the plain bytes. Every block is checked when it is read: DATA_LOSS
// naming the blob and the block when its bytes changed. Thread-safe.
absl::StatusOr<std::unique_ptr<ByteSource>> OpenPacked(PosixFile file,
                                                       const Digest& digest);

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_PACKED_BLOB_H_
