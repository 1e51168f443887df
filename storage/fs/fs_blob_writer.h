#ifndef CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
#define CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>

#include "core/base/digest.h"
#include "core/base/direct_appender.h"
#include "core/base/mutex.h"
#include "storage/blob_store.h"
#include "storage/fs/blob_layout.h"
#include "storage/fs/posix_file.h"

namespace cairn {

// An upload of an FsBlobStore, which it may outlive: they share the layout.
// What was appended goes to the disk past the page cache and is hashed from the
// buffers that it lay in; those that the hash is too far behind for are let go,
// and read back. It is written in order: the file never has a hole. Memory: at
// most eight buffers of DirectAppender while bytes come in, none after Sync().
class FsBlobWriter : public BlobWriter {
 public:
  // `size`: bytes there already.
  FsBlobWriter(std::shared_ptr<BlobLayout> layout, PosixFile file,
               int64_t size);

  absl::Status AppendPieces(
      absl::Span<const absl::string_view> pieces) override;
  absl::Status WriteOut() override;
  absl::StatusOr<int64_t> Sync() override;
  absl::StatusOr<int64_t> CatchUp(int64_t bytes_max) override;
  int64_t size() const override { return size_; }
  absl::Status ReadBack(int64_t offset, absl::Span<char> out) const override;
  absl::Status Commit(const Digest& digest) && override;

 private:
  absl::Status Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(append_);
  // Writes what is next. A failed write leaves the file as long as what was
  // written before, and is tried again.
  absl::Status WriteNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_);
  int64_t WaitingBytes() const;
  // Keeps what was written for the hash; where that has fallen behind, waits
  // for it.
  void Keep(FileBytes bytes);
  // Hashes what is kept next, if that is where the hash is; false if not.
  bool HashKept() ABSL_EXCLUSIVE_LOCKS_REQUIRED(hash_);
  // Where what is kept begins; `none` if nothing is.
  int64_t FirstKept(int64_t none) const;

  const std::shared_ptr<BlobLayout> layout_;
  PosixFile file_;
  WrittenFile written_file_;
  std::atomic<int64_t> size_;
  // What of it is in the file.
  std::atomic<int64_t> written_;
  // Locked in this order.
  mutable Mutex append_;
  mutable Mutex write_;
  Mutex hash_;
  mutable Mutex keep_;
  DirectAppender appender_ ABSL_GUARDED_BY(append_);
  // Covers the first `hashed_` bytes, which change under the lock.
  Hasher hasher_ ABSL_GUARDED_BY(hash_);
  std::atomic<int64_t> hashed_ = 0;
  // Without gaps but where some were let go; in order.
  std::deque<FileBytes> kept_ ABSL_GUARDED_BY(keep_);
  // What was appended after `written_`, but for what the appender has. Taken
  // off under `write_`, too.
  std::deque<FileBytes> waiting_ ABSL_GUARDED_BY(keep_);
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_FS_FS_BLOB_WRITER_H_
