#ifndef CAIRN_CORE_RPC_TRAILING_HASH_H_
#define CAIRN_CORE_RPC_TRAILING_HASH_H_

#include <cstdint>
#include <map>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/rpc/chunk_message.h"
#include "core/rpc/part_file.h"

namespace cairn {

// SHA-256 of a file while it comes in, in any order, on a thread of its own.
// What came last is hashed from memory, of which a bounded amount is kept; the
// rest is read back. Thread-safe but for Finish().
class TrailingHash {
 public:
  // `file`, of `size_bytes` in the end, must outlive it.
  TrailingHash(const PartFile& file, int64_t size_bytes);
  ~TrailingHash();

  // Bytes that were written at `offset`. Waits while the hash works through
  // what is kept and is far behind.
  void Offer(int64_t offset, ChunkBytes bytes);
  // All in front of `front` is written; never goes back.
  void Advance(int64_t front);
  // Waits for the end of the file; CANCELLED after Stop().
  absl::StatusOr<Digest> Finish();
  // Nothing more will come.
  void Stop();

 private:
  void Run();
  bool IsPressed() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Hashes what comes next; OUT_OF_RANGE at the end, CANCELLED when stopped.
  absl::Status HashSome();

  const PartFile& file_;
  const int64_t size_;
  // Of the thread, until that has ended.
  Hasher hasher_;
  std::string tile_;

  Mutex mutex_;
  CondVar changed_;
  std::map<int64_t, ChunkBytes> kept_ ABSL_GUARDED_BY(mutex_);
  int64_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t front_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t hashed_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_TRAILING_HASH_H_
