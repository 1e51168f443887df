#ifndef CAIRN_SERVER_FLOW_BLOB_OWNERSHIP_H_
#define CAIRN_SERVER_FLOW_BLOB_OWNERSHIP_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/store/v1/upload.pb.h"
#include "core/base/digest.h"
#include "server/flow/hub_store.h"
#include "storage/blob_store.h"

namespace cairn {

// Stored under "users/U/SHA256".
template <>
struct Table<store::v1::BlobOwnerRecord> {
  static constexpr absl::string_view kPrefix = "blob_owner/";
  static std::string Name(const store::v1::BlobOwnerRecord& r);
};

// Index of open uploads by user.
inline constexpr absl::string_view kUploadByUser = "upload_user";
// The same by the user's organisation, if it has one.
inline constexpr absl::string_view kUploadByOrganization =
    "upload_organization";

template <>
struct Table<store::v1::UploadRecord> {
  static constexpr absl::string_view kPrefix = "upload/";
  static std::string Name(const store::v1::UploadRecord& r);
  static std::vector<IndexEntry> Indexes(const store::v1::UploadRecord& r);
};

// Notes that `user` sent a blob whole; in the transaction after its commit.
// Its bytes count for the user's quota, once.
absl::Status RecordOwner(HubTransaction& transaction, absl::string_view user,
                         const Digest& digest, int64_t size_bytes);

// Forgets an owner, unless the record is no longer the one given: then the
// blob was sent again.
absl::Status DropOwner(HubTransaction& transaction,
                       const store::v1::BlobOwnerRecord& record);

// True when `user` once sent this blob whole. It may be gone since.
absl::StatusOr<bool> IsOwner(const HubReader& reader, absl::string_view user,
                             const Digest& digest);

// What a request may name: the blobs that `user` sent and that are stored, in
// the order asked for. They are touched, so that they stay until a record
// names them: call it before the transaction that writes that record.
// FAILED_PRECONDITION naming the first one that is neither.
absl::StatusOr<std::vector<BlobStat>> ClaimBlobs(
    const HubReader& reader, BlobStore& blobs, absl::string_view user,
    absl::Span<const Digest> digests);

}  // namespace cairn

#endif  // CAIRN_SERVER_FLOW_BLOB_OWNERSHIP_H_
