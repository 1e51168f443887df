#include "server/flow/blob_ownership.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "server/flow/quota.h"

namespace cairn {
namespace {

using store::v1::BlobOwnerRecord;
using store::v1::UploadRecord;

std::string OwnerName(absl::string_view user, absl::string_view sha256) {
  return absl::StrCat(user, "/", sha256);
}

absl::Status NotSent(absl::string_view user, const Digest& digest) {
  return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                         "blob ", digest.hex(), " was not uploaded by ", user,
                         " or is no longer here: upload it first")),
                     {{"sha256", digest.hex()}});
}

}  // namespace

std::string Table<BlobOwnerRecord>::Name(const BlobOwnerRecord& r) {
  return OwnerName(r.user(), r.sha256());
}

std::string Table<UploadRecord>::Name(const UploadRecord& r) {
  return r.name();
}
std::vector<IndexEntry> Table<UploadRecord>::Indexes(const UploadRecord& r) {
  std::vector<IndexEntry> entries = {{kUploadByUser, r.user()}};
  if (!r.organization().empty()) {
    entries.push_back({kUploadByOrganization, r.organization()});
  }
  return entries;
}

absl::Status RecordOwner(HubTransaction& transaction, absl::string_view user,
                         const Digest& digest, int64_t size_bytes) {
  CAIRN_ASSIGN_OR_RETURN(bool is_owner, IsOwner(transaction, user, digest));
  if (!is_owner) {
    CAIRN_RETURN_IF_ERROR(AddStoredBytes(transaction, user, size_bytes));
  }
  BlobOwnerRecord record;
  record.set_user(std::string(user));
  record.set_sha256(digest.hex());
  record.set_size_bytes(size_bytes);
  const absl::Time now = transaction.now();
  record.mutable_create_time()->set_seconds(absl::ToUnixSeconds(now));
  record.mutable_create_time()->set_nanos(static_cast<int32_t>(
      (now - absl::FromUnixSeconds(absl::ToUnixSeconds(now))) /
      absl::Nanoseconds(1)));
  return transaction.Put(record);
}

absl::Status DropOwner(HubTransaction& transaction,
                       const BlobOwnerRecord& record) {
  const std::string name = Table<BlobOwnerRecord>::Name(record);
  CAIRN_ASSIGN_OR_RETURN(auto now, transaction.Find<BlobOwnerRecord>(name));
  if (!now.has_value() ||
      now->SerializeAsString() != record.SerializeAsString()) {
    return absl::OkStatus();
  }
  CAIRN_RETURN_IF_ERROR(
      AddStoredBytes(transaction, record.user(), -record.size_bytes()));
  return transaction.Delete<BlobOwnerRecord>(name);
}

absl::StatusOr<bool> IsOwner(const HubReader& reader, absl::string_view user,
                             const Digest& digest) {
  CAIRN_ASSIGN_OR_RETURN(
      auto record, reader.Find<BlobOwnerRecord>(OwnerName(user, digest.hex())));
  return record.has_value();
}

absl::StatusOr<std::vector<BlobStat>> ClaimBlobs(
    const HubReader& reader, BlobStore& blobs, absl::string_view user,
    absl::Span<const Digest> digests) {
  std::vector<BlobStat> stats;
  stats.reserve(digests.size());
  for (const Digest& digest : digests) {
    CAIRN_ASSIGN_OR_RETURN(bool is_owner, IsOwner(reader, user, digest));
    if (!is_owner) return NotSent(user, digest);
    absl::Status touched = blobs.Touch(digest);
    if (absl::IsNotFound(touched)) return NotSent(user, digest);
    CAIRN_RETURN_IF_ERROR(touched);
    CAIRN_ASSIGN_OR_RETURN(BlobStat stat, blobs.Stat(digest));
    stats.push_back(stat);
  }
  return stats;
}

}  // namespace cairn
