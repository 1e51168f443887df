#ifndef CAIRN_SERVER_RELEASE_FILE_INTAKE_H_
#define CAIRN_SERVER_RELEASE_FILE_INTAKE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
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

// Stores the blobs of files and computes the files' digests, a thread a file:
// large checkpoints come in shards. Bytes are read once, and hashed and written
// from the same memory, so that digests are those of what is stored, whatever
// becomes of the source. One use.
class FileIntake {
 public:
  // `blobs` must outlive it.
  FileIntake(BlobStore& blobs, std::vector<IntakeFile> files);

  // The error of the first thing that fails; blobs that were stored stay for
  // the sweep.
  absl::Status Run();
  std::vector<IntakeFile> Take() && { return std::move(files_); }

 private:
  void TakeFiles();
  absl::Status TakeFile(IntakeFile& file);
  bool HasFailed();

  BlobStore& blobs_;
  std::vector<IntakeFile> files_;
  std::vector<size_t> order_;  // of the files, largest first
  std::atomic<size_t> next_ = 0;
  Mutex mutex_;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_FILE_INTAKE_H_
