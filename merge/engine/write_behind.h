#ifndef CAIRN_MERGE_ENGINE_WRITE_BEHIND_H_
#define CAIRN_MERGE_ENGINE_WRITE_BEHIND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "core/base/direct_write.h"
#include "core/base/mutex.h"
#include "core/base/thread_pool.h"

namespace cairn {

// Writes buffers to files while the next ones are filled. Whole pages go past
// the page cache where that is possible: copying into fresh pages would take
// more of a processor than all the rest of a merge of few models. Thread-safe.
class WriteBehind {
 public:
  // What offsets of files and buffers are multiples of.
  static constexpr size_t kPage = kDirectPage;

  // `buffers` of `buffer_bytes` each, a multiple of kPage.
  WriteBehind(int buffers, size_t buffer_bytes);
  // Waits until all is written.
  ~WriteBehind() = default;
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;

  size_t buffer_bytes() const { return buffer_bytes_; }
  // A buffer to fill; waits for one. Whoever holds at most one at a time, and
  // there are fewer of those than buffers, waits for the disk alone.
  char* Take();
  // Gives a buffer back unwritten.
  void GiveBack(char* buffer);
  // Writes bytes [begin, end) of a buffer to where byte 0 of it is at `offset`
  // of the file, a multiple of kPage, and gives it back. A failure is told by
  // status().
  void Write(WrittenFile& file, int64_t offset, char* buffer, size_t begin,
             size_t end);
  // Of what was written so far: the first failure.
  absl::Status status();
  // Waits until all is written, and says how that went.
  absl::Status Wait();

 private:
  struct Unmap {
    size_t bytes;
    void operator()(char* memory) const;
  };

  const size_t buffer_bytes_;
  const size_t buffers_;
  const std::unique_ptr<char[], Unmap> memory_;
  Mutex mutex_;
  CondVar freed_;
  std::vector<char*> free_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  ThreadPool threads_;  // last: stops before the rest goes
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_WRITE_BEHIND_H_
