#ifndef CAIRN_STORAGE_BLOB_STORE_H_
#define CAIRN_STORAGE_BLOB_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "core/base/digest.h"
#include "core/base/file_hasher.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// A blob as the store knows it.
struct BlobStat {
  Digest digest;
  int64_t size_bytes = 0;
  // What it takes up: less than its size when it is kept packed.
  int64_t stored_bytes = 0;
  absl::Time stored_at;
};

// Writes one upload from its first byte on; survives a restart of the process
// under its id. A destructor only abandons what is not synced: Resume() finds
// the rest. One thread at a time, but WriteOut(), Sync() and CatchUp() may each
// run in another thread beside Append(), so that neither the disk nor the hash
// holds up who brings the bytes.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;

  // Appends pieces, one after the other. RESOURCE_EXHAUSTED when the disk is
  // full: then none is taken, nothing is lost, and what could not be written is
  // tried again.
  virtual absl::Status AppendPieces(
      absl::Span<const absl::string_view> pieces) = 0;
  absl::Status Append(absl::string_view bytes) {
    return AppendPieces({&bytes, 1});
  }
  // Writes what was appended and waits in memory to be written; what came
  // last may go on waiting. Appending does so by itself when too much waits.
  virtual absl::Status WriteOut() = 0;
  // Makes all that was appended durable and returns its length: the committed
  // offset, which never goes back.
  virtual absl::StatusOr<int64_t> Sync() = 0;
  // Hashes at most `bytes_max` more of what was appended and returns how much
  // is hashed now; Commit() hashes what is left.
  virtual absl::StatusOr<int64_t> CatchUp(int64_t bytes_max) = 0;
  // Appended bytes.
  virtual int64_t size() const = 0;
  // Reads back what was appended, to compare a resent range.
  virtual absl::Status ReadBack(int64_t offset, absl::Span<char> out) const = 0;
  // The bytes become the blob `digest` once they were hashed to it and are
  // durable; INVALID_ARGUMENT when they hash to something else. Storing what
  // is stored already is success. The upload stays, whole, until it is
  // abandoned: who crashes before noting what became of it commits it again.
  virtual absl::Status Commit(const Digest& digest) && = 0;
};

// True for what Begin() takes as an id: 1 to 64 letters, digits and '-'.
bool IsUploadId(absl::string_view text);

// Content-addressed bytes. A blob is visible under a digest only after its
// bytes were hashed to it and are durable. How a store keeps them is its own
// affair: readers get the plain bytes, or DATA_LOSS naming the blob where the
// store itself notices that they changed. Writes are RESOURCE_EXHAUSTED with
// reason STORAGE_FULL while there is no room; reads go on. Thread-safe.
class BlobStore {
 public:
  virtual ~BlobStore() = default;

  // NOT_FOUND when there is no such blob.
  virtual absl::StatusOr<BlobStat> Stat(const Digest& digest) const = 0;
  // Opens a blob for reading; it stays readable while the source lives, even
  // if removed. NOT_FOUND when there is no such blob.
  virtual absl::StatusOr<std::unique_ptr<ByteSource>> Open(
      const Digest& digest) const = 0;
  // Starts an upload. INVALID_ARGUMENT unless IsUploadId(); ALREADY_EXISTS
  // when the id is in use.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> Begin(
      absl::string_view upload_id) = 0;
  // Goes on with an upload at its durable length. NOT_FOUND when unknown. At
  // most one writer of an upload may live at a time; the caller sees to that.
  virtual absl::StatusOr<std::unique_ptr<BlobWriter>> Resume(
      absl::string_view upload_id) = 0;
  // Drops an upload; dropping an unknown one is success.
  virtual absl::Status Abandon(absl::string_view upload_id) = 0;
  // Stores bytes in memory as one blob, durably.
  virtual absl::StatusOr<Digest> Put(absl::string_view bytes) = 0;
  // The same for all bytes of a source, read once from front to back in
  // bounded memory. `file` (null: none) takes them, too: of a file that the
  // blob is a part of.
  virtual absl::StatusOr<Digest> PutFrom(const ByteSource& source,
                                         FileHasher* file) = 0;
  absl::StatusOr<Digest> PutFrom(const ByteSource& source) {
    return PutFrom(source, nullptr);
  }
  // Sets `stored_at` of a blob to now, durably enough to outlive the process.
  // Whoever is about to write the first record that names a blob stores or
  // touches it first: that keeps the sweeper away. NOT_FOUND when it is gone.
  virtual absl::Status Touch(const Digest& digest) = 0;
  // Removes a blob; removing an unknown one is success.
  virtual absl::Status Remove(const Digest& digest) = 0;
  // Removes a blob if it was stored (or touched) before `cutoff`, atomically
  // with respect to Put, Commit and Touch. True when it was removed.
  virtual absl::StatusOr<bool> RemoveIfOlder(const Digest& digest,
                                             absl::Time cutoff) = 0;
  // Calls `visit` with every blob from `first` on, in the order of digests,
  // until it returns false.
  virtual absl::Status ListFrom(
      const Digest& first,
      const std::function<bool(const BlobStat&)>& visit) const = 0;
  // The same with all blobs.
  absl::Status List(const std::function<bool(const BlobStat&)>& visit) const {
    return ListFrom(Digest(), visit);
  }
  // Ids of all uploads that were begun and not abandoned.
  virtual absl::StatusOr<std::vector<std::string>> ListUploads() const = 0;
};

}  // namespace cairn

#endif  // CAIRN_STORAGE_BLOB_STORE_H_
