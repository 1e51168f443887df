#ifndef CAIRN_STORAGE_FS_FS_BLOB_STORE_H_
#define CAIRN_STORAGE_FS_FS_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/blob_packing.h"
#include "storage/blob_store.h"
#include "storage/fs/blob_layout.h"

namespace cairn {

// Blobs as files of one directory, `blobs/ab/<digest>`, and open uploads
// as `uploads/<id>.part`; a packed blob is `blobs/ab/<digest>.packed`. A
// blob's name appears by rename() after its bytes
// were hashed and synced, so a crash leaves whole blobs and resumable uploads.
// A blob's modification time is its `stored_at`. Thread-safe; one process at a
// time (the metadata store's lock sees to that). Writers may outlive the store
// object. RESOURCE_EXHAUSTED with reason STORAGE_FULL: no space, and nothing is
// lost; DATA_LOSS: the disk does not give the bytes back.
class FsBlobStore : public BlobStore, public BlobPacking {
 public:
  struct Options {
    // Space of the file system that blobs leave free, so that the records
    // beside them can still be written. 0 leaves none.
    int64_t reserve_bytes = 0;
    // What there is; asked before every write.
    BlobLayout::FreeSpace free_space = FreeBytes;
  };

  // Makes the directories that are missing and drops the leftovers of
  // interrupted Put()s.
  static absl::StatusOr<std::unique_ptr<FsBlobStore>> Open(
      const std::string& directory, Options options);
  static absl::StatusOr<std::unique_ptr<FsBlobStore>> Open(
      const std::string& directory) {
    return Open(directory, Options());
  }

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

  absl::StatusOr<PackOutcome> Pack(const Digest& digest,
                                   const std::function<bool()>& go_on) override;

  // Takes over a blob of another store, its file as it is: by hard link or by
  // copy. Bytes are not looked at. Durable after the next
  // SyncFileSystem(). NOT_FOUND when the other store does not have it;
  // FAILED_PRECONDITION for a link across file systems.
  enum class Transfer { kLink, kCopy };
  absl::Status TakeFrom(const FsBlobStore& other, const Digest& digest,
                        Transfer how);
  // Everything written so far is durable when this returns.
  absl::Status SyncFileSystem() const;

 private:
  // What a file says of its blob.
  absl::StatusOr<BlobStat> Describe(const Digest& digest,
                                    const BlobFile& file) const;

  explicit FsBlobStore(std::shared_ptr<BlobLayout> layout)
      : layout_(std::move(layout)) {}

  // Shared with writers, as they may outlive the store.
  const std::shared_ptr<BlobLayout> layout_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_FS_BLOB_STORE_H_
