#ifndef CAIRN_SERVER_INTAKE_UPLOAD_FILE_H_
#define CAIRN_SERVER_INTAKE_UPLOAD_FILE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/mutex.h"
#include "core/base/thread_pool.h"
#include "storage/blob_store.h"

namespace cairn {

struct UploadFileOptions {
  // The disk is asked to keep what came after every so many bytes, beside the
  // streams; four times as many may be on their way to it.
  int64_t sync_bytes = 32 << 20;
  // The running hash may be so far behind.
  int64_t unhashed_max = 64 << 20;
  // Writes, syncs and hashes run here; null: where the bytes are appended.
  // Outlives the file.
  ThreadPool* background = nullptr;
};

// The bytes of one open upload. Any number of streams may bring them at once:
// chunks are appended in the order of their offsets, and one that is ahead
// waits, holding no thread, until the bytes before it came. Writing, syncing
// and hashing go on beside, at a bounded distance. Thread-safe; owned by a
// shared_ptr, as work in the background may outlive the last stream.
class UploadFile : public std::enable_shared_from_this<UploadFile> {
 public:
  // Told once what became of a chunk, by any thread, holding no lock.
  using Done = absl::AnyInvocable<void(absl::Status)>;

  struct Chunk {
    int64_t offset = 0;
    // One after the other. The bytes stay until `done` was called.
    std::vector<absl::string_view> pieces;
    // Of the stream that brings it, set before Forget(); outlives the call of
    // `done`.
    const std::atomic<bool>* is_cancelled = nullptr;
    Done done;
  };

  // `name` is that of the upload, for errors.
  UploadFile(std::string name, std::unique_ptr<BlobWriter> writer,
             UploadFileOptions options);

  // Appends a chunk when it is its turn. What is stored already is compared:
  // INVALID_ARGUMENT when it differs. ABORTED once the file is closed,
  // CANCELLED when the stream is, else the error of the disk. After a failed
  // sync the file is broken: what was not durable may be lost.
  void Write(Chunk chunk);
  // Gives what waits with `is_cancelled` back.
  void Forget(const std::atomic<bool>* is_cancelled);
  // Makes all that was appended durable and returns how much that is.
  absl::StatusOr<int64_t> Sync();

  // Appended bytes, and how many of them are durable.
  int64_t size() const;
  int64_t committed() const;
  bool is_broken() const;

  // Ends all use: what waits is ABORTED, what is under way is waited for.
  // Returns the writer; null if it was closed before.
  std::unique_ptr<BlobWriter> Close();

 private:
  using Waiting = std::multimap<int64_t, Chunk>;

  // A chunk whose turn it is, and how much was stored before it.
  struct Turn {
    Chunk chunk;
    int64_t stored = 0;
  };

  // Appends while it is some chunk's turn.
  void Pump();
  // The caller then appends, and nobody else, until EndTurn().
  std::optional<Turn> BeginTurn();
  absl::Status Append(Turn& turn);
  // Compares the first `known` bytes of a chunk with what is stored, and drops
  // them.
  absl::Status PassKnown(const BlobWriter& writer, Chunk& chunk, size_t known);
  void EndTurn();
  // Starts what is due of writing, syncing and hashing.
  void StartWork();
  // Does it in the background, or here and now if that is full.
  bool RunsHere(void (UploadFile::*work)());
  void WriteSome();
  void SyncSome();
  void HashSome();
  absl::StatusOr<int64_t> SyncNow();
  absl::Status Break(const absl::Status& status);
  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Usable() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string name_;
  const UploadFileOptions options_;
  const int64_t found_;  // bytes that were there when it was opened

  mutable Mutex mutex_;
  CondVar idle_;
  // Used outside the lock by whoever appends, syncs or hashes, which Close()
  // waits for.
  std::unique_ptr<BlobWriter> writer_ ABSL_GUARDED_BY(mutex_);
  Waiting waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t size_ ABSL_GUARDED_BY(mutex_);
  int64_t committed_ ABSL_GUARDED_BY(mutex_);
  int64_t hashed_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t sync_begun_ ABSL_GUARDED_BY(mutex_);
  int64_t write_begun_ ABSL_GUARDED_BY(mutex_);
  bool is_appending_ ABSL_GUARDED_BY(mutex_) = false;
  // Queued or running.
  bool is_write_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_sync_due_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_hash_due_ ABSL_GUARDED_BY(mutex_) = false;
  // Running.
  int syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_hashing_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_SERVER_INTAKE_UPLOAD_FILE_H_
