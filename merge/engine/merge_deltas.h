#ifndef CAIRN_MERGE_ENGINE_MERGE_DELTAS_H_
#define CAIRN_MERGE_ENGINE_MERGE_DELTAS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "merge/delta/update_delta.h"
#include "merge/engine/merge_plan.h"
#include "merge/method/whole_model.h"
#include "merge/strategy/strategy.h"

namespace cairn {

// What a merge learns of whole updates before the first tensor.
struct MergeFacts {
  // What the strategy's method chooses by; null when it needs nothing.
  std::shared_ptr<const WholeModel> whole;
  // A factor on every input's delta, 1 unless updates are clipped.
  std::vector<double> clips;
};

// Reads all deltas as often as the strategy and its care for updates want.
// FAILED_PRECONDITION with DUPLICATE, naming both contributions, when two
// updates are as good as equal and the care refuses that.
absl::StatusOr<MergeFacts> LearnFacts(const MergePlan& plan,
                                      const Strategy& strategy);

// The deltas of the inputs that change one tensor. Thread-safe.
class MergeDeltas {
 public:
  static absl::StatusOr<MergeDeltas> Open(const MergePlan& plan,
                                          const PlannedTensor& planned,
                                          const std::vector<double>& clips);

  // In the order of planned.inputs.
  size_t size() const { return deltas_.size(); }
  // Which input of the plan a delta is of.
  size_t input(size_t k) const { return deltas_[k].input; }
  // Elements from `first` on.
  absl::Status Read(size_t k, int64_t first, absl::Span<float> out) const;

 private:
  struct Delta {
    size_t input = 0;
    float clip = 1;
    std::unique_ptr<TensorDelta> delta;
  };

  std::vector<Delta> deltas_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MERGE_DELTAS_H_
