#ifndef CAIRN_MERGE_ENGINE_LANE_RUNNER_H_
#define CAIRN_MERGE_ENGINE_LANE_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/engine/tensor_stream.h"

namespace cairn {

// One tensor that is made step by step.
class Lane {
 public:
  virtual ~Lane() = default;

  // Does the next part, whose bytes go into the stream; false after the last.
  virtual absl::StatusOr<bool> Step() = 0;
  virtual TensorStream& stream() = 0;
  // All bytes are in the stream and hashed.
  virtual absl::Status Finish() = 0;
};

// Pieces of work, each of them a lane for a while.
struct LaneWork {
  int threads = 1;
  // How many a thread has under way at once: their bytes are hashed together.
  int lanes = 1;
  int64_t pieces = 0;
  // `worker` in [0, threads) names the thread, for buffers that all its lanes
  // use in turn. Null: there is nothing to do.
  std::function<absl::StatusOr<std::unique_ptr<Lane>>(int worker,
                                                      int64_t piece)>
      start;
  // Whether a piece is so large that it gets a thread of its own: beside
  // others it would end long after them.
  std::function<bool(int64_t piece)> is_alone;
};

// Runs all pieces. They start in order and none starts after a failure.
// Returns the failure of the smallest piece.
absl::Status RunLanes(const LaneWork& work);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_LANE_RUNNER_H_
