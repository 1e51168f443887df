#ifndef CAIRN_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_
#define CAIRN_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "storage/blob_store.h"

namespace cairn {

// A BlobStore in memory, for tests and tools. Thread-safe. Writers refer to
// the store: it must outlive them.
class MemoryBlobStore : public BlobStore {
 public:
  // `clock` stamps blobs and must outlive the store.
  explicit MemoryBlobStore(Clock& clock = Clock::System()) : clock_(clock) {}

  absl::StatusOr<BlobStat> Stat(const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(
      absl::string_view upload_id) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(
      absl::string_view upload_id) override;
  absl::Status Abandon(absl::string_view upload_id) override;
  absl::StatusOr<Digest> Put(absl::string_view bytes) override;
  using BlobStore::PutFrom;
  absl::StatusOr<Digest> PutFrom(const ByteSource& source,
                                 FileHasher* whole) override;
  absl::Status Touch(const Digest& digest) override;
  absl::Status Remove(const Digest& digest) override;
  absl::StatusOr<bool> RemoveIfOlder(const Digest& digest,
                                     absl::Time cutoff) override;
  absl::Status ListFrom(
      const Digest& first,
      const std::function<bool(const BlobStat&)>& visit) const override;
  absl::StatusOr<std::vector<std::string>> ListUploads() const override;

 private:
  friend class MemoryBlobWriter;

  struct Blob {
    // Shared with the sources that still read it.
    std::shared_ptr<const std::string> bytes;
    absl::Time stored_at;
  };

  absl::Status SyncUpload(const std::string& id, const std::string& bytes);
  void CommitUpload(const std::string& id, const Digest& digest,
                    std::string bytes);

  Clock& clock_;
  mutable Mutex mutex_;
  std::map<Digest, Blob> blobs_ ABSL_GUARDED_BY(mutex_);
  // The durable prefix of each open upload.
  std::map<std::string, std::string> uploads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_MEMORY_MEMORY_BLOB_STORE_H_
