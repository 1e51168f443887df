#ifndef CAIRN_MERGE_ENGINE_MERGE_PLAN_H_
#define CAIRN_MERGE_ENGINE_MERGE_PLAN_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"
#include "merge/engine/model_identity.h"
#include "merge/strategy/strategy.h"

namespace cairn {

// One update to be merged. What it points at outlives the merge.
struct MergeInput {
  // models/M/contributions/C, or where the update was found.
  std::string contribution;
  // Digest of the update; inputs are taken in the order of it.
  std::string digest;
  // Digest of the base it was made on.
  std::string base_digest;
  const Update* update = nullptr;
  // The base it was made on: its change is taken against this, then added to
  // the head, whichever release that is.
  const Checkpoint* base = nullptr;
  // A factor on its delta besides the strategy's.
  double weight = 1.0;
};

// What to merge into what, and how.
struct MergeRequest {
  const Checkpoint* head = nullptr;
  const ModelIdentity* head_identity = nullptr;
  std::vector<MergeInput> inputs;
  std::string strategy;
  std::map<std::string, std::string> parameters;
  int64_t seed = 0;
  // Recorded.
  std::string device_class;
};

struct MergeOptions {
  int threads = 1;
  // What buffers and factors may take; the inputs' headers come on top.
  int64_t memory_bytes = int64_t{2} << 30;
};

// A tensor of the head that changes, and the inputs that change it.
struct PlannedTensor {
  const CheckpointTensor* tensor = nullptr;
  std::vector<size_t> inputs;
};

// How a merge will run; made from headers alone.
struct MergePlan {
  // Inputs by digest.
  std::vector<MergeInput> inputs;
  // Largest first, so that threads end together.
  std::vector<PlannedTensor> tensors;
  // Elements of all numeric tensors of the head.
  int64_t head_elements = 0;
  // What one thread's buffers hold at most.
  int64_t tile_elements_max = 0;
  int64_t bytes_written = 0;
  // Threads and buffers that fit the memory.
  int threads = 1;
  int64_t tile_elements = 0;
  int64_t memory_bytes = 0;
};

// The inputs of a tensor that the strategy looks at: those that change it, or
// all.
std::vector<size_t> ParticipantsOf(const MergePlan& plan,
                                   const PlannedTensor& planned,
                                   const Strategy& strategy);
// The strategy of a request for the inputs of its plan.
absl::StatusOr<Strategy> StrategyOf(const MergeRequest& request,
                                    const MergePlan& plan);

// Checks that every input fits its base and the head, and the strategy. Besides
// what CheckAgainstBase() and Strategy::Make() return: FAILED_PRECONDITION with STALE_BASE for an input
// whose tensors the head has not or has in another shape, DTYPE_MISMATCH for a
// tensor of the head that holds no floating-point numbers, LIMIT_EXCEEDED when
// the memory is too small even for one thread (the message says what would be
// enough, and for which tensor).
absl::StatusOr<MergePlan> PlanMerge(const MergeRequest& request,
                                    const MergeOptions& options);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MERGE_PLAN_H_
