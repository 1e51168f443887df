#ifndef CAIRN_CORE_RPC_FILE_DOWNLOAD_H_
#define CAIRN_CORE_RPC_FILE_DOWNLOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/v1/transfer.pb.h"
#include "core/base/digest.h"
#include "core/base/mutex.h"
#include "core/rpc/hub_channel.h"
#include "core/rpc/part_file.h"
#include "core/rpc/trailing_hash.h"

namespace cairn {

// Fetches what a part file lacks in ranges, a large file over several
// connections at once, and hashes it meanwhile. A range that breaks is given
// back and taken up by whoever has time. Memory: a buffer of DirectAppender a
// connection, and what the hash keeps.
class FileDownload {
 public:
  struct Options {
    v1::ReadRequest request;
    int64_t size_bytes = 0;
    // Told of bytes that are there now; one call at a time, from any thread.
    std::function<void(int64_t)> progress;
  };

  // `hub` and `file` must outlive it.
  FileDownload(HubChannel& hub, PartFile& file, Options options);

  // SHA-256 of the whole, once all of it is there.
  absl::StatusOr<Digest> Run();

 private:
  // [begin, end) of the file.
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };

  void Lane(int index);
  // Further connections wait until the line is found to be slow; false when
  // there is nothing left for this one.
  bool IsWanted(int lane);
  void NoteTime(const Range& range, absl::Duration taken);
  int64_t RangeBytes() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The next range to fetch; waits while others may give theirs back. None
  // when nothing is left to do.
  std::optional<Range> TakeRange();
  // Fetches until the end of the range or an error.
  absl::Status Fetch(int lane, const Range& range);
  // Of a range that is under way, what is before `at` is in the file now.
  absl::Status Reached(const Range& range, int64_t at, int64_t received);
  // What is left of a range that begins at `begin` is free again, or done.
  void GiveBack(const Range& range);
  void Fail(const absl::Status& status);

  // Bytes from the front that are there.
  int64_t Front() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  HubChannel& hub_;
  PartFile& file_;
  const Options options_;
  TrailingHash hash_;

  mutable Mutex mutex_;
  CondVar changed_;
  // Where the ranges begin that nobody has begun.
  int64_t untouched_ ABSL_GUARDED_BY(mutex_);
  // Broken ranges, by their begin.
  std::map<int64_t, int64_t> broken_ ABSL_GUARDED_BY(mutex_);
  // Ranges under way: their end, and how far they are.
  std::map<int64_t, int64_t> under_way_ ABSL_GUARDED_BY(mutex_);
  int64_t noted_ ABSL_GUARDED_BY(mutex_);
  bool is_slow_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_FILE_DOWNLOAD_H_
