#include "server/intake/upload_sessions.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/failpoint.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/rpc/limits.h"
#include "server/auth/permission.h"
#include "server/flow/blob_ownership.h"
#include "server/flow/resource_names.h"

namespace cairn {
namespace {

using store::v1::BlobOwnerRecord;
using store::v1::UploadRecord;

// Activity is recorded this coarsely, so that a stream costs no transaction.
constexpr absl::Duration kActivityStep = absl::Hours(1);
constexpr size_t kPassRecordsMax = 200;

absl::Status MayUpload(const Caller& caller) {
  // Bytes belong to no model yet.
  return Authorize(caller, Permission::kUpload, caller.model);
}

absl::Status NoUpload(absl::string_view name) {
  return absl::NotFoundError(
      absl::StrCat(name,
                   " does not exist: it was finished, cancelled or "
                   "idle for too long; begin another one"));
}

absl::Status LimitExceeded(absl::StatusCode code, absl::string_view message,
                           int64_t limit) {
  return ReasonedError(code, "LIMIT_EXCEEDED", message,
                       {{"limit", absl::StrCat(limit)}});
}

v1::Blob MakeBlob(const Digest& digest, int64_t size_bytes) {
  v1::Blob blob;
  blob.set_sha256(digest.hex());
  blob.set_size_bytes(size_bytes);
  return blob;
}

std::string IdOf(const UploadRecord& record) {
  return std::string(ShortName(record.name()));
}

}  // namespace

UploadSessions::UploadSessions(HubStore& store, BlobStore& blobs,
                               UploadOptions options)
    : store_(store),
      blobs_(blobs),
      options_(options),
      files_(blobs, options.file, options.files_kept_max) {}

absl::StatusOr<v1::Upload> UploadSessions::Begin(
    const Caller& caller, v1::BeginUploadRequest request) {
  CAIRN_RETURN_IF_ERROR(MayUpload(caller));
  const int64_t size = request.size_bytes();
  if (size < 0 || size > options_.bytes_max) {
    return LimitExceeded(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("size_bytes is ", size, ": an upload has between 0 and ",
                     options_.bytes_max, " bytes"),
        options_.bytes_max);
  }
  if (!request.sha256().empty()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request.sha256()));
    request.set_sha256(digest.hex());
    CAIRN_ASSIGN_OR_RETURN(bool has_it,
                           Has(store_.Read(), caller, digest, size));
    if (has_it) {
      v1::Upload upload;
      upload.set_size_bytes(size);
      upload.set_committed_bytes(size);
      upload.set_complete(true);
      return upload;
    }
  }
  UploadRecord record;
  absl::Status written =
      store_.Transact([&](HubTransaction& transaction) -> absl::Status {
        CAIRN_ASSIGN_OR_RETURN(auto same,
                               FindSame(transaction, caller, request));
        record = same.value_or(UploadRecord());
        if (!same.has_value()) {
          CAIRN_RETURN_IF_ERROR(
              CheckOpenUpload(transaction, options_.quota, caller.user));
          CAIRN_RETURN_IF_ERROR(CheckQuota(transaction, caller, size));
          CAIRN_ASSIGN_OR_RETURN(*record.mutable_organization(),
                                 OrganizationOf(transaction, caller.user));
          record.set_name(absl::StrCat("uploads/", ToHex(RandomBytes(16))));
          record.set_user(caller.user);
          record.set_size_bytes(size);
          record.set_sha256(request.sha256());
          record.set_request_id(request.request_id());
          record.mutable_create_time()->set_seconds(
              absl::ToUnixSeconds(transaction.now()));
        }
        record.mutable_active_time()->set_seconds(
            absl::ToUnixSeconds(transaction.now()));
        return transaction.Put(record);
      });
  CAIRN_RETURN_IF_ERROR(written);
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.begun"));
  return Describe(record);
}

absl::StatusOr<std::optional<UploadRecord>> UploadSessions::FindSame(
    const HubReader& reader, const Caller& caller,
    const v1::BeginUploadRequest& request) const {
  CAIRN_ASSIGN_OR_RETURN(
      auto open, reader.FindBy<UploadRecord>(kUploadByUser, caller.user));
  for (UploadRecord& record : open) {
    const bool same_bytes = !request.sha256().empty() &&
                            record.sha256() == request.sha256() &&
                            record.size_bytes() == request.size_bytes();
    const bool same_request = !request.request_id().empty() &&
                              record.request_id() == request.request_id();
    if (same_bytes) return std::optional<UploadRecord>(std::move(record));
    if (!same_request) continue;
    if (record.size_bytes() == request.size_bytes() &&
        record.sha256() == request.sha256()) {
      return std::optional<UploadRecord>(std::move(record));
    }
    return absl::InvalidArgumentError(
        absl::StrCat("request_id \"", request.request_id(),
                     "\" came with another size or digest before"));
  }
  return std::optional<UploadRecord>();
}

absl::Status UploadSessions::CheckQuota(const HubReader& reader,
                                        const Caller& caller,
                                        int64_t more_bytes) const {
  // Workers bring what the hub asked for.
  if (caller.role == v1::User::WORKER) return absl::OkStatus();
  return CheckStorage(reader, options_.quota, caller.user, more_bytes);
}

absl::StatusOr<bool> UploadSessions::Has(const HubReader& reader,
                                         const Caller& caller,
                                         const Digest& digest,
                                         int64_t size_bytes) {
  CAIRN_ASSIGN_OR_RETURN(bool is_owner, IsOwner(reader, caller.user, digest));
  if (!is_owner || absl::IsNotFound(blobs_.Touch(digest))) return false;
  auto stat = blobs_.Stat(digest);
  if (absl::IsNotFound(stat.status())) return false;
  CAIRN_RETURN_IF_ERROR(stat.status());
  if (stat->size_bytes == size_bytes) return true;
  return absl::InvalidArgumentError(absl::StrCat("blob ", digest.hex(), " has ",
                                                 stat->size_bytes,
                                                 " bytes, not ", size_bytes));
}

absl::StatusOr<UploadRecord> UploadSessions::FindOwn(
    const Caller& caller, absl::string_view name) const {
  CAIRN_RETURN_IF_ERROR(MayUpload(caller));
  CAIRN_RETURN_IF_ERROR(UploadName::Parse(name));
  CAIRN_ASSIGN_OR_RETURN(auto record, store_.Read().Find<UploadRecord>(name));
  if (!record.has_value() || record->user() != caller.user) {
    return NoUpload(name);
  }
  return *std::move(record);
}

absl::Status UploadSessions::KeepAlive(const UploadRecord& record) {
  const absl::Time active =
      absl::FromUnixSeconds(record.active_time().seconds());
  if (store_.clock().Now() - active < kActivityStep) return absl::OkStatus();
  return store_.Transact([&](HubTransaction& transaction) -> absl::Status {
    CAIRN_ASSIGN_OR_RETURN(auto now,
                           transaction.Find<UploadRecord>(record.name()));
    if (!now.has_value()) return NoUpload(record.name());
    now->mutable_active_time()->set_seconds(
        absl::ToUnixSeconds(transaction.now()));
    return transaction.Put(*now);
  });
}

absl::StatusOr<v1::Upload> UploadSessions::Describe(
    const UploadRecord& record) {
  CAIRN_ASSIGN_OR_RETURN(int64_t committed, files_.Committed(IdOf(record)));
  v1::Upload upload;
  upload.set_name(record.name());
  upload.set_size_bytes(record.size_bytes());
  upload.set_committed_bytes(committed);
  upload.mutable_expire_time()->set_seconds(
      record.active_time().seconds() + absl::ToInt64Seconds(options_.idle_ttl));
  return upload;
}

absl::StatusOr<std::unique_ptr<UploadStream>> UploadSessions::OpenStream(
    const Caller& caller, absl::string_view name, UploadOrder order) {
  CAIRN_ASSIGN_OR_RETURN(UploadRecord record, FindOwn(caller, name));
  CAIRN_RETURN_IF_ERROR(KeepAlive(record));
  CAIRN_ASSIGN_OR_RETURN(auto file, files_.Open(IdOf(record)));
  return std::unique_ptr<UploadStream>(new UploadStream(
      std::move(record), std::move(file), order, options_.idle_ttl));
}

absl::StatusOr<v1::Upload> UploadSessions::Get(const Caller& caller,
                                               absl::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(UploadRecord record, FindOwn(caller, name));
  return Describe(record);
}

absl::StatusOr<v1::Blob> UploadSessions::Finish(
    const Caller& caller, const v1::FinishUploadRequest& request) {
  CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(request.sha256()));
  auto record = FindOwn(caller, request.name());
  if (absl::IsNotFound(record.status())) {
    // The answer to an earlier call may have been lost.
    CAIRN_ASSIGN_OR_RETURN(bool is_owner,
                           IsOwner(store_.Read(), caller.user, digest));
    auto stat = blobs_.Stat(digest);
    if (is_owner && stat.ok()) return MakeBlob(digest, stat->size_bytes);
  }
  CAIRN_RETURN_IF_ERROR(record.status());
  if (!record->sha256().empty() && record->sha256() != digest.hex()) {
    return absl::InvalidArgumentError(
        absl::StrCat(record->name(), " was begun for ", record->sha256(),
                     " and cannot become ", digest.hex()));
  }
  return Commit(*record, digest);
}

absl::StatusOr<v1::Blob> UploadSessions::Commit(const UploadRecord& record,
                                                const Digest& digest) {
  CAIRN_ASSIGN_OR_RETURN(const int64_t size, files_.Received(IdOf(record)));
  if (size != record.size_bytes()) {
    return WithDetails(absl::FailedPreconditionError(absl::StrCat(
                           record.name(), " has ", size, " of ",
                           record.size_bytes(), " bytes: send the rest first")),
                       {{"committed_bytes", absl::StrCat(size)}});
  }
  CAIRN_ASSIGN_OR_RETURN(auto taken, files_.Take(IdOf(record)));
  absl::Status committed = std::move(*taken.writer).Commit(digest);
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.stored"));
  const bool is_refused = absl::IsInvalidArgument(committed);
  if (!committed.ok() && !is_refused) return committed;
  absl::Status written =
      store_.Transact([&](HubTransaction& transaction) -> absl::Status {
        CAIRN_RETURN_IF_ERROR(transaction.Delete<UploadRecord>(record.name()));
        if (is_refused) return absl::OkStatus();
        return RecordOwner(transaction, record.user(), digest, size);
      });
  CAIRN_RETURN_IF_ERROR(written);
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.finished"));
  // Only now, so that a crash before leaves an upload to finish again; what is
  // left after one, a pass drops.
  taken.writer.reset();
  (void)blobs_.Abandon(IdOf(record));
  if (is_refused) return Annotate(committed, record.name());
  return MakeBlob(digest, size);
}

absl::Status UploadSessions::Cancel(const Caller& caller,
                                    absl::string_view name) {
  auto record = FindOwn(caller, name);
  if (absl::IsNotFound(record.status())) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(record.status());
  CAIRN_RETURN_IF_ERROR(files_.Drop(IdOf(*record)));
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.dropped"));
  return store_.Transact([&](HubTransaction& transaction) {
    return transaction.Delete<UploadRecord>(name);
  });
}

absl::StatusOr<v1::BatchUploadResponse> UploadSessions::Batch(
    const Caller& caller, const v1::BatchUploadRequest& request) {
  CAIRN_RETURN_IF_ERROR(MayUpload(caller));
  int64_t total = 0;
  for (const auto& item : request.items()) {
    total += static_cast<int64_t>(item.data().size());
  }
  if (total > kBatchUploadBytesMax) {
    return LimitExceeded(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("a batch of ", total, " bytes: send at most ",
                     kBatchUploadBytesMax),
        kBatchUploadBytesMax);
  }
  CAIRN_RETURN_IF_ERROR(CheckQuota(store_.Read(), caller, total));
  std::vector<Digest> digests;
  for (const auto& item : request.items()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(item.sha256()));
    if (Digest::Of(item.data()) != digest) {
      return absl::InvalidArgumentError(
          absl::StrCat("the data of item ", digests.size(),
                       " does not hash to its sha256 ", digest.hex()));
    }
    digests.push_back(digest);
  }
  v1::BatchUploadResponse response;
  for (const auto& item : request.items()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, blobs_.Put(item.data()));
    *response.add_blobs() =
        MakeBlob(digest, static_cast<int64_t>(item.data().size()));
  }
  CAIRN_RETURN_IF_ERROR(Failpoint("upload.batch_stored"));
  absl::Status written =
      store_.Transact([&](HubTransaction& transaction) -> absl::Status {
        for (size_t i = 0; i < digests.size(); ++i) {
          CAIRN_RETURN_IF_ERROR(
              RecordOwner(transaction, caller.user, digests[i],
                          response.blobs(static_cast<int>(i)).size_bytes()));
        }
        return absl::OkStatus();
      });
  CAIRN_RETURN_IF_ERROR(written);
  return response;
}

absl::StatusOr<v1::FindMissingResponse> UploadSessions::FindMissing(
    const Caller& caller, const v1::FindMissingRequest& request) {
  CAIRN_RETURN_IF_ERROR(MayUpload(caller));
  if (request.sha256_size() > kFindMissingMax) {
    return LimitExceeded(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat(request.sha256_size(), " digests: ask for at most ",
                     kFindMissingMax),
        kFindMissingMax);
  }
  const HubSnapshot reader = store_.Read();
  v1::FindMissingResponse response;
  for (const std::string& sha256 : request.sha256()) {
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(sha256));
    CAIRN_ASSIGN_OR_RETURN(bool is_owner, IsOwner(reader, caller.user, digest));
    if (!is_owner || absl::IsNotFound(blobs_.Touch(digest))) {
      response.add_missing(sha256);
    }
  }
  return response;
}

absl::StatusOr<int> UploadSessions::RunPass() {
  const absl::Duration now = store_.clock().Monotonic();
  if (passed_at_.has_value() && now - *passed_at_ < period()) return 0;
  CAIRN_ASSIGN_OR_RETURN(int idle, DropIdle());
  CAIRN_ASSIGN_OR_RETURN(int orphans, DropOrphans());
  CAIRN_ASSIGN_OR_RETURN(int owners, DropOwnersOfNothing());
  const int dropped = idle + orphans + owners;
  if (dropped == 0) passed_at_ = now;
  return dropped;
}

absl::StatusOr<int> UploadSessions::DropIdle() {
  const absl::Time cutoff = store_.clock().Now() - options_.idle_ttl;
  CAIRN_ASSIGN_OR_RETURN(auto records,
                         store_.Read().ListAll<UploadRecord>("", 100'000));
  size_t dropped = 0;
  for (const UploadRecord& record : records) {
    if (dropped == kPassRecordsMax) break;
    if (absl::FromUnixSeconds(record.active_time().seconds()) >= cutoff) {
      continue;
    }
    if (files_.Users(IdOf(record)) > 0) continue;  // a stream is at it
    absl::Status status = files_.Drop(IdOf(record));
    if (absl::IsAborted(status)) continue;  // it is being finished
    CAIRN_RETURN_IF_ERROR(status);
    absl::Status written = store_.Transact([&](HubTransaction& transaction) {
      return transaction.Delete<UploadRecord>(record.name());
    });
    CAIRN_RETURN_IF_ERROR(written);
    ++dropped;
  }
  return static_cast<int>(dropped);
}

// Bytes whose record went first: a crash came between the two.
absl::StatusOr<int> UploadSessions::DropOrphans() {
  CAIRN_ASSIGN_OR_RETURN(auto ids, blobs_.ListUploads());
  int dropped = 0;
  for (const std::string& id : ids) {
    CAIRN_ASSIGN_OR_RETURN(auto record, store_.Read().Find<UploadRecord>(
                                            absl::StrCat("uploads/", id)));
    if (record.has_value()) continue;
    CAIRN_RETURN_IF_ERROR(blobs_.Abandon(id));
    ++dropped;
  }
  return dropped;
}

// Owners of blobs that were swept, a page of all a pass.
absl::StatusOr<int> UploadSessions::DropOwnersOfNothing() {
  const absl::Time cutoff = store_.clock().Now() - options_.idle_ttl;
  CAIRN_ASSIGN_OR_RETURN(
      auto page, store_.Read().List<BlobOwnerRecord>(
                     "", {.size = kPageSizeMax, .token = owners_seen_}));
  owners_seen_ = page.next_token;
  int dropped = 0;
  for (const BlobOwnerRecord& record : page.records) {
    if (absl::FromUnixSeconds(record.create_time().seconds()) >= cutoff) {
      continue;
    }
    CAIRN_ASSIGN_OR_RETURN(Digest digest, Digest::Parse(record.sha256()));
    if (!absl::IsNotFound(blobs_.Stat(digest).status())) continue;
    absl::Status written =
        store_.Transact([&](HubTransaction& transaction) -> absl::Status {
          return DropOwner(transaction, record);
        });
    CAIRN_RETURN_IF_ERROR(written);
    ++dropped;
  }
  return dropped;
}

}  // namespace cairn
