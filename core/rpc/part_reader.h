#ifndef CAIRN_CORE_RPC_PART_READER_H_
#define CAIRN_CORE_RPC_PART_READER_H_

#include <grpcpp/support/slice.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// A run of a blob's bytes, cut into chunks of kChunkBytes.
struct Part {
  // In the blob.
  int64_t offset = 0;
  struct Chunk {
    grpc::Slice bytes;
    uint32_t crc32c = 0;
  };
  std::vector<Chunk> chunks;
};

// Reads a blob once, from front to back, on a thread of its own, and hands it
// out in parts, ahead of the senders by a bounded number. On the way it hashes
// the blob if nobody did yet, also what need not be sent. Next() and GiveBack()
// are for any thread, the rest for one.
class PartReader {
 public:
  static constexpr int64_t kPartBytes = 256 << 10;

  enum class Hashing { kDone, kOnTheWay };
  struct Options {
    // Where the blob is in the source.
    int64_t offset = 0;
    int64_t size_bytes = 0;
    Hashing hashing = Hashing::kDone;
    // Parts that are read and not given back; bounds memory.
    size_t parts_max = 40;
  };

  // `source` must outlive the reader.
  PartReader(const ByteSource& source, const Options& options)
      : source_(source), options_(options) {}
  ~PartReader() { Stop(); }

  // Hands out everything from `from` on, after a Stop() also again.
  void Start(int64_t from);
  // Ends the thread; those that wait in Next() get nothing.
  void Stop();
  // As Stop(), but for any thread, and not waiting for the end.
  void RequestStop();

  // The next part, in order; waits for it. Null at the end, after a stop, and
  // when the source failed.
  std::unique_ptr<Part> Next();
  void GiveBack(std::unique_ptr<Part> part);

  // Whether the source could be read.
  absl::Status status() const;
  // SHA-256 of the blob; with Hashing::kOnTheWay, and not while started. Reads
  // what was not read yet.
  absl::StatusOr<Digest> FinishHash();

 private:
  void Run(int64_t from);
  absl::Status HashTo(int64_t end);
  absl::Status Fill(Part& part, int64_t at);
  // One that may be filled; null after a stop.
  std::unique_ptr<Part> Acquire();
  void Offer(std::unique_ptr<Part> part);
  bool is_stopping() const;

  const ByteSource& source_;
  const Options options_;
  // Used by the thread while it runs.
  Hasher hasher_;
  int64_t hashed_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<std::unique_ptr<Part>> ready_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Part>> free_ ABSL_GUARDED_BY(mutex_);
  size_t made_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_at_end_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_PART_READER_H_
