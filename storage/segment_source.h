#ifndef CAIRN_STORAGE_SEGMENT_SOURCE_H_
#define CAIRN_STORAGE_SEGMENT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/tensor/byte_source.h"
#include "storage/blob_store.h"

namespace cairn {

// A run of bytes of a file: one stored blob.
struct BlobSegment {
  Digest digest;
  int64_t size_bytes = 0;
};

// The bytes of `segments`, one after the other. A blob is opened when it is
// first read and closed when another one is, so that a checkpoint of 100,000
// tensors needs one open file. Reads are DATA_LOSS, beginning with `label`,
// when a blob is missing or has another size. `blobs` must outlive the source.
std::unique_ptr<ByteSource> MakeSegmentSource(
    const BlobStore& blobs, std::string label,
    std::vector<BlobSegment> segments);

}  // namespace cairn

#endif  // CAIRN_STORAGE_SEGMENT_SOURCE_H_
