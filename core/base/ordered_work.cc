#include "core/base/ordered_work.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/mutex.h"

namespace cairn {
namespace {

// Which piece starts next, and whose turn it is to be taken.
class Order {
 public:
  explicit Order(int64_t pieces) : pieces_(pieces) {}

  std::optional<int64_t> Start() {
    MutexLock lock(mutex_);
    if (!failure_.ok() || started_ == pieces_) return std::nullopt;
    return started_++;
  }
  // Waits for the turn of a piece. False when one before it has failed.
  bool Await(int64_t piece) {
    MutexLock lock(mutex_);
    while (turn_ != piece) changed_.Wait(mutex_);
    return failure_.ok();
  }
  // Ends a turn.
  void End(absl::Status status) {
    MutexLock lock(mutex_);
    if (failure_.ok()) failure_ = std::move(status);
    ++turn_;
    changed_.NotifyAll();
  }
  absl::Status Failure() {
    MutexLock lock(mutex_);
    return std::move(failure_);
  }

 private:
  const int64_t pieces_;
  Mutex mutex_;
  CondVar changed_;
  int64_t started_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t turn_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::Status RunOrdered(int threads, int64_t pieces,
                        absl::FunctionRef<absl::Status(int, int64_t)> make,
                        absl::FunctionRef<absl::Status(int, int64_t)> take) {
  Order order(pieces);
  const auto run = [&](int worker) {
    while (const std::optional<int64_t> piece = order.Start()) {
      absl::Status status = make(worker, *piece);
      if (order.Await(*piece) && status.ok()) status = take(worker, *piece);
      order.End(std::move(status));
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
  return order.Failure();
}

}  // namespace cairn
