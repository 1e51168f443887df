#ifndef CAIRN_STORAGE_FS_FS_BLOB_STORE_H_
#define CAIRN_STORAGE_FS_FS_BLOB_STORE_H_

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/mutex.h"
#include "storage/blob_store.h"

namespace cairn {

// Blobs as files of one directory, `blobs/ab/<digest>`, and open uploads
// as `uploads/<id>.part`. A blob's name appears by rename() after its bytes
// were hashed and synced, so a crash leaves whole blobs and resumable uploads.
// A blob's modification time is its `stored_at`. Thread-safe; one process at a
// time (the metadata store's lock sees to that). Writers may outlive the store
// object. RESOURCE_EXHAUSTED: no space, and nothing is lost; DATA_LOSS: the
// disk does not give the bytes back.
class FsBlobStore : public BlobStore {
 public:
  // Makes the directories that are missing and drops the leftovers of
  // interrupted Put()s.
  static absl::StatusOr<std::unique_ptr<FsBlobStore>> Open(
      const std::string& directory);

  absl::StatusOr<BlobStat> Stat(const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      const Digest& digest) const override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(
      absl::string_view upload_id) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(
      absl::string_view upload_id) override;
  absl::Status Abandon(absl::string_view upload_id) override;
  absl::StatusOr<Digest> Put(absl::string_view bytes) override;
  absl::Status Touch(const Digest& digest) override;
  absl::Status Remove(const Digest& digest) override;
  absl::StatusOr<bool> RemoveIfOlder(const Digest& digest,
                                     absl::Time cutoff) override;
  absl::Status List(
      const std::function<bool(const BlobStat&)>& visit) const override;
  absl::StatusOr<std::vector<std::string>> ListUploads() const override;

 private:
  // Where everything is, and the locks that order removals of a blob with
  // stores of it. Writers share it, as they may outlive the store.
  class Layout;

  explicit FsBlobStore(std::shared_ptr<Layout> layout);

  friend class FsBlobWriter;
  const std::shared_ptr<Layout> layout_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_FS_BLOB_STORE_H_
