#ifndef CAIRN_SERVER_FLOW_STORED_FILES_H_
#define CAIRN_SERVER_FLOW_STORED_FILES_H_

#include <string>

#include "absl/status/statusor.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/release.pb.h"
#include "core/tensor/byte_source.h"
#include "google/protobuf/repeated_field.h"
#include "storage/blob_store.h"

namespace cairn {

// Opens files that are one blob each (updates, suites) under their paths.
// NOT_FOUND when a blob is not there; INVALID_ARGUMENT naming the file when it
// has another size than the file says.
absl::StatusOr<FileMap> OpenStoredFiles(
    const BlobStore& blobs,
    const google::protobuf::RepeatedPtrField<v1::File>& files);

// The text of a release's config.json; empty when it has none.
absl::StatusOr<std::string> ReadConfig(const BlobStore& blobs,
                                       const v1::Release& release);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_STORED_FILES_H_
