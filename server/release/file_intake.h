#ifndef CAIRN_SERVER_RELEASE_FILE_INTAKE_H_
#define CAIRN_SERVER_RELEASE_FILE_INTAKE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cairn/v1/common.pb.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/tensor/byte_source.h"
#include "storage/blob_store.h"

namespace cairn {

// A file on its way to being published: a run of blobs.
struct IntakeFile {
  std::string path;
  // Where its bytes are; null when every blob is stored.
  SharedSource source = nullptr;
  // Where each blob ends in the file.
  std::vector<int64_t> ends = {};
  // The blobs; filled in where they come from `source`.
  std::vector<Digest> blobs = {};
  // Filled in: size and both digests.
  v1::File described = {};
};

// Stores the blobs of files and computes the files' digests, on all cores. The
// digests are those of the stored blobs, read back right after they were
// stored, so that they hold whatever becomes of the source. One use.
class FileIntake {
 public:
  // `blobs` must outlive it.
  FileIntake(BlobStore& blobs, std::vector<IntakeFile> files);

  // The error of the first thing that fails; blobs that were stored stay for
  // the sweep.
  absl::Status Run();
  std::vector<IntakeFile> Take() && { return std::move(files_); }

 private:
  // One digest of one file.
  struct HashTask {
    size_t file;
    Hasher::Kind kind;
  };
  struct StoreTask {
    size_t file;
    size_t blob;
  };

  void StoreBlobs();
  absl::Status StoreBlob(const StoreTask& task);
  void HashFiles();
  absl::Status HashFile(const HashTask& task);
  // Waits until a blob is stored; false when something failed.
  bool AwaitBlob(size_t file, size_t blob);
  void Fail(const absl::Status& status);
  bool HasFailed();

  BlobStore& blobs_;
  std::vector<IntakeFile> files_;
  std::vector<StoreTask> store_tasks_;
  std::vector<HashTask> hash_tasks_;
  std::atomic<size_t> next_store_ = 0;
  std::atomic<size_t> next_hash_ = 0;
  Mutex mutex_;
  CondVar changed_;
  // By file: which blobs are stored.
  std::vector<std::vector<bool>> stored_ ABSL_GUARDED_BY(mutex_);
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_FILE_INTAKE_H_
