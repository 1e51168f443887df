#ifndef CAIRN_SERVER_RELEASE_FILE_ASSEMBLY_H_
#define CAIRN_SERVER_RELEASE_FILE_ASSEMBLY_H_

#include "absl/status/statusor.h"
#include "cairn/store/v1/records.pb.h"
#include "core/tensor/byte_source.h"
#include "storage/blob_store.h"

namespace cairn {

// A published file as one source over the blobs that are its bytes. DATA_LOSS
// naming the file when a blob is missing or has another size than its segment
// says. `blobs` must outlive the source.
absl::StatusOr<SharedSource> OpenAssembled(const BlobStore& blobs,
                                           const store::v1::FileSegments& file);

// Size, SHA-256 and git SHA-1 of a source's bytes; reads them once. `path` is
// copied into the result.
absl::StatusOr<v1::File> DescribeFile(const std::string& path,
                                      const ByteSource& source);

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_FILE_ASSEMBLY_H_
