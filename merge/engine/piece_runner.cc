#include "merge/engine/piece_runner.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "merge/engine/first_failure.h"

namespace cairn {

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
