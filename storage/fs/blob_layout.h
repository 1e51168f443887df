#ifndef CAIRN_STORAGE_FS_BLOB_LAYOUT_H_
#define CAIRN_STORAGE_FS_BLOB_LAYOUT_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "storage/fs/posix_file.h"

namespace cairn {

// How a blob is kept: as it is, or as packed_blob.h describes.
enum class BlobForm { kPlain, kPacked };

// A blob's file.
struct BlobFile {
  std::string path;
  BlobForm form = BlobForm::kPlain;
  int64_t file_bytes = 0;
  timespec modified = {};
};

// Bytes that may still be written to the file system of a directory.
absl::StatusOr<int64_t> FreeBytes(const std::string& directory);
// Bytes that the file system has in all.
absl::StatusOr<int64_t> DiskBytes(const std::string& directory);

// Where the files of a blob store are, how they get their names, and the locks
// that order stores of a blob with removals of it. Thread-safe.
class BlobLayout {
 public:
  using FreeSpace =
      std::function<absl::StatusOr<int64_t>(const std::string& directory)>;

  BlobLayout(std::string directory, int64_t reserve_bytes, FreeSpace free_space)
      : directory_(std::move(directory)),
        reserve_bytes_(reserve_bytes),
        free_space_(std::move(free_space)) {}

  const std::string& directory() const { return directory_; }
  std::string blobs() const;
  std::string uploads() const;
  // The directory of the blobs whose digest begins with `byte`.
  std::string FanPath(uint8_t byte) const;
  std::string BlobPath(const Digest& digest,
                       BlobForm form = BlobForm::kPlain) const;
  std::string PartPath(absl::string_view upload_id) const;

  absl::Status MakeDirectories();
  // Open uploads, by id.
  absl::StatusOr<std::vector<std::string>> ListUploads() const;
  // The file of a blob; the plain one while there are two. NOT_FOUND when
  // there is none.
  absl::StatusOr<BlobFile> Find(const Digest& digest) const;
  // The digests of one fan in order.
  absl::StatusOr<std::vector<Digest>> ListFan(uint8_t byte) const;

  // RESOURCE_EXHAUSTED with reason STORAGE_FULL when writing `bytes` would
  // leave less than the reserve.
  absl::Status CheckSpace(int64_t bytes) const;
  // A new file beside the uploads, for what is to be published. Its leftovers
  // are dropped by DropTemporary().
  absl::StatusOr<PosixFile> CreateTemporary() const;
  absl::Status DropTemporary() const;

  // Syncs a file and gives it the name of the blob whose bytes it holds,
  // durably. A file of that name is replaced by its equal, which also heals
  // it; then the blob's packed form goes.
  absl::Status Publish(PosixFile& file, const Digest& digest);
  // The same for an upload, which keeps its own name, too.
  absl::Status PublishUpload(PosixFile& file, const Digest& digest);
  // The same without making anything durable or dropping the other form.
  absl::Status PublishUnsynced(PosixFile& file, const Digest& digest,
                               BlobForm form);
  // Syncs a file that holds a stored blob packed and puts it in the place of
  // the plain one, durably, with its time. NOT_FOUND when that is gone.
  absl::Status ReplaceByPacked(PosixFile& file, const Digest& digest);
  // Removes both forms; true when there was one. LockOf(digest) is held.
  absl::StatusOr<bool> RemoveLocked(const Digest& digest) const;
  // Everything written to the file system so far is durable when this returns.
  absl::Status SyncFileSystem() const;
  // Held while a blob gets its name or time, and while one is removed: the two
  // must not interleave.
  Mutex& LockOf(const Digest& digest) {
    return locks_[digest.bytes()[0] % locks_.size()];
  }

 private:
  absl::Status MakeFan(uint8_t byte) const;
  std::string NewTemporaryPath() const;
  // Gives the file, which also has the name `path`, that of a blob instead.
  absl::Status Name(PosixFile& file, const std::string& path,
                    const Digest& digest, BlobForm form);
  absl::Status PublishAs(PosixFile& file, const std::string& path,
                         const Digest& digest);

  const std::string directory_;
  const int64_t reserve_bytes_;
  const FreeSpace free_space_;
  std::array<Mutex, 64> locks_;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_BLOB_LAYOUT_H_
