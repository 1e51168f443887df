#include "merge/engine/piece_runner.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/mutex.h"

namespace cairn {
namespace {

// The failure of the smallest piece so far.
class FirstFailure {
 public:
  void Note(int64_t piece, absl::Status status) {
    MutexLock lock(mutex_);
    if (status_.ok() || piece < piece_) {
      piece_ = piece;
      status_ = std::move(status);
    }
    is_set_.store(true, std::memory_order_relaxed);
  }
  bool is_set() const { return is_set_.load(std::memory_order_relaxed); }
  absl::Status Take() {
    MutexLock lock(mutex_);
    return std::move(status_);
  }

 private:
  std::atomic<bool> is_set_ = false;
  Mutex mutex_;
  int64_t piece_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status RunPieces(int threads, int64_t pieces,
                       absl::FunctionRef<absl::Status(int, int64_t)> work) {
  std::atomic<int64_t> next = 0;
  FirstFailure failure;
  auto run = [&](int worker) {
    while (!failure.is_set()) {
      const int64_t piece = next.fetch_add(1);
      if (piece >= pieces) return;
      absl::Status status = work(worker, piece);
      if (!status.ok()) failure.Note(piece, std::move(status));
    }
  };
  {
    std::vector<std::jthread> others;
    const auto useful = static_cast<int>(std::min<int64_t>(threads, pieces));
    for (int worker = 1; worker < useful; ++worker) {
      others.emplace_back(run, worker);
    }
    run(0);
  }
  return failure.Take();
}

}  // namespace cairn
