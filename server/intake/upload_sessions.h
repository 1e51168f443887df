#ifndef CAIRN_SERVER_INTAKE_UPLOAD_SESSIONS_H_
#define CAIRN_SERVER_INTAKE_UPLOAD_SESSIONS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "cairn/store/v1/upload.pb.h"
#include "cairn/v1/transfer.pb.h"
#include "server/flow/caller.h"
#include "server/flow/hub_store.h"
#include "server/flow/quota.h"
#include "server/flow/stage.h"
#include "server/intake/upload_file.h"
#include "server/intake/upload_file_table.h"
#include "storage/blob_store.h"

namespace cairn {

struct UploadOptions {
  // What identities and organisations may use.
  QuotaDefaults quota = NoQuota();
  // Largest single upload.
  int64_t bytes_max = int64_t{1} << 40;
  // An upload that is not touched for so long is dropped.
  absl::Duration idle_ttl = absl::Hours(24);
  // How the bytes get to the disk.
  UploadFileOptions file;
  // Unused files that stay open.
  size_t files_kept_max = 64;
};

// How the streams of an upload share the work.
enum class UploadOrder {
  // This one brings everything, in order.
  kAlone,
  // Several bring parts: a chunk that is ahead waits for the others.
  kShared,
};

// One stream of chunks into an upload. Not thread-safe but for Cancel().
class UploadStream {
 public:
  ~UploadStream() { Cancel(); }

  // Takes the bytes at `offset`, in pieces, which stay until `done` is called,
  // perhaps by another thread; one chunk at a time. What is stored already is
  // compared, never appended. INVALID_ARGUMENT for a chunk that is too large,
  // broken, past the declared size, or different from what is stored;
  // FAILED_PRECONDITION for one that leaves a gap that nobody fills;
  // RESOURCE_EXHAUSTED when the disk is full; ABORTED when the upload was
  // finished or dropped meanwhile. The stream may be gone after `done`.
  void Write(int64_t offset, std::vector<absl::string_view> pieces,
             uint32_t crc32c, UploadFile::Done done);
  // Makes everything durable and says how much that is.
  absl::StatusOr<v1::Upload> End();
  // The peer is gone: a chunk that waits is CANCELLED. For any thread.
  void Cancel();

 private:
  friend class UploadSessions;
  UploadStream(store::v1::UploadRecord record, UploadFileTable::Use file,
               UploadOrder order, absl::Duration idle_ttl);
  absl::Status Check(int64_t offset, absl::Span<const absl::string_view> pieces,
                     uint32_t crc32c);

  const store::v1::UploadRecord record_;
  const UploadOrder order_;
  const absl::Duration idle_ttl_;
  const UploadFileTable::Use file_;
  std::atomic<bool> is_cancelled_ = false;
};

// Bytes on their way in. An upload is a record and a file, not a connection:
// streams fill it, one or several at a time, and what they were told is
// committed stays so over crashes. A finished upload is a blob that its sender
// owns. As a stage, run by one thread, it drops what nobody goes on with.
// Thread-safe.
class UploadSessions : public Stage {
 public:
  // `store` and `blobs` must outlive it.
  UploadSessions(HubStore& store, BlobStore& blobs, UploadOptions options = {});

  // Opens an upload, or finds the caller's open upload of the same digest and
  // size, or of the same request id. `complete` when the caller sent this blob
  // before. RESOURCE_EXHAUSTED with QUOTA_EXCEEDED for what the caller, or its
  // organisation, may not open or store any more.
  absl::StatusOr<v1::Upload> Begin(const Caller& caller,
                                   v1::BeginUploadRequest request);
  // ABORTED while it is being finished or dropped.
  absl::StatusOr<std::unique_ptr<UploadStream>> OpenStream(
      const Caller& caller, absl::string_view name,
      UploadOrder order = UploadOrder::kAlone);
  absl::StatusOr<v1::Upload> Get(const Caller& caller, absl::string_view name);
  // INVALID_ARGUMENT when the bytes hash to something else: the upload is then
  // gone. Finishing again is success.
  absl::StatusOr<v1::Blob> Finish(const Caller& caller,
                                  const v1::FinishUploadRequest& request);
  // Cancelling what is not there is success.
  absl::Status Cancel(const Caller& caller, absl::string_view name);
  // All items are checked before any is stored.
  absl::StatusOr<v1::BatchUploadResponse> Batch(
      const Caller& caller, const v1::BatchUploadRequest& request);
  // A blob that is not missing stays for as long as an idle upload would.
  absl::StatusOr<v1::FindMissingResponse> FindMissing(
      const Caller& caller, const v1::FindMissingRequest& request);

  absl::string_view name() const override { return "uploads"; }
  absl::Duration period() const override { return absl::Minutes(10); }
  absl::StatusOr<int> RunPass() override;

 private:
  // The caller's own upload; NOT_FOUND for one that is somebody else's.
  absl::StatusOr<store::v1::UploadRecord> FindOwn(const Caller& caller,
                                                  absl::string_view name) const;
  absl::StatusOr<std::optional<store::v1::UploadRecord>> FindSame(
      const HubReader& reader, const Caller& caller,
      const v1::BeginUploadRequest& request) const;
  absl::Status CheckQuota(const HubReader& reader, const Caller& caller,
                          int64_t more_bytes) const;
  // True when the caller sent the blob before and it is still here.
  absl::StatusOr<bool> Has(const HubReader& reader, const Caller& caller,
                           const Digest& digest, int64_t size_bytes);
  absl::Status KeepAlive(const store::v1::UploadRecord& record);
  absl::StatusOr<v1::Upload> Describe(const store::v1::UploadRecord& record);
  absl::StatusOr<v1::Blob> Commit(const store::v1::UploadRecord& record,
                                  const Digest& digest);
  absl::StatusOr<int> DropIdle();
  absl::StatusOr<int> DropOrphans();
  absl::StatusOr<int> DropOwnersOfNothing();

  HubStore& store_;
  BlobStore& blobs_;
  const UploadOptions options_;
  UploadFileTable files_;
  // When a pass found nothing, monotonic. Others come no oftener than the
  // period: every change of the store asks for one.
  std::optional<absl::Duration> passed_at_;
  // Where the next pass goes on among the owners.
  std::string owners_seen_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_UPLOAD_SESSIONS_H_
