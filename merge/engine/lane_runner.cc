#include "merge/engine/lane_runner.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "merge/engine/first_failure.h"

namespace cairn {
namespace {

class LaneRunner {
 public:
  explicit LaneRunner(const LaneWork& work) : work_(work) {}

  absl::Status Run() {
    {
      std::vector<std::jthread> others;
      const auto useful =
          static_cast<int>(std::min<int64_t>(work_.threads, work_.pieces));
      for (int worker = 1; worker < useful; ++worker) {
        others.emplace_back([this, worker] { Work(worker); });
      }
      Work(0);
    }
    return failure_.Take();
  }

 private:
  struct Active {
    int64_t piece = 0;
    std::unique_ptr<Lane> lane;
    bool is_done = false;
  };

  bool IsAlone(int64_t piece) const {
    return work_.is_alone && work_.is_alone(piece);
  }

  // The next piece for a thread that has `active` under way.
  std::optional<int64_t> Next(const std::vector<Active>& active) {
    if (active.size() >= static_cast<size_t>(work_.lanes)) return std::nullopt;
    if (!active.empty() && IsAlone(active.front().piece)) return std::nullopt;
    MutexLock lock(mutex_);
    if (failure_.is_set() || next_ >= work_.pieces) return std::nullopt;
    if (!active.empty() && IsAlone(next_)) return std::nullopt;
    return next_++;
  }

  void Work(int worker) {
    std::vector<Active> active;
    while (true) {
      while (const std::optional<int64_t> piece = Next(active)) {
        auto lane = work_.start(worker, *piece);
        if (!lane.ok()) {
          failure_.Note(*piece, lane.status());
        } else if (*lane != nullptr) {
          active.push_back({.piece = *piece, .lane = *std::move(lane)});
        }
      }
      if (active.empty()) return;
      Round(active);
    }
  }

  // One step of every lane.
  void Round(std::vector<Active>& active) {
    std::vector<TensorStream*> streams;
    for (auto at = active.begin(); at != active.end();) {
      const absl::StatusOr<bool> has_more = at->lane->Step();
      if (!has_more.ok()) {
        failure_.Note(at->piece, has_more.status());
        at = active.erase(at);
        continue;
      }
      at->is_done = !*has_more;
      streams.push_back(&at->lane->stream());
      ++at;
    }
    TensorStream::HashTogether(streams);
    for (auto at = active.begin(); at != active.end();) {
      if (!at->is_done) {
        ++at;
        continue;
      }
      absl::Status status = at->lane->Finish();
      if (!status.ok()) failure_.Note(at->piece, std::move(status));
      at = active.erase(at);
    }
  }

  const LaneWork& work_;
  FirstFailure failure_;
  Mutex mutex_;
  int64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

absl::Status RunLanes(const LaneWork& work) { return LaneRunner(work).Run(); }

}  // namespace cairn
