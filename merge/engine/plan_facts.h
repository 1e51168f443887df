#ifndef CAIRN_MERGE_ENGINE_PLAN_FACTS_H_
#define CAIRN_MERGE_ENGINE_PLAN_FACTS_H_

#include <atomic>

#include "absl/status/status.h"
#include "merge/engine/output_plan.h"

namespace cairn {

// Reads the inputs of a bound plan as often as its methods and its care for
// inputs want, and tells the tasks what they choose by: inner products of
// whole models, thresholds of the paper's TIES, factors of clipped models.
// Does nothing, and reads nothing, where nobody asks. INVALID_ARGUMENT with
// DUPLICATE, naming both, for two models that are as good as equal where the
// plan refuses that; CANCELLED once `is_cancelled` is set.
absl::Status GatherFacts(OutputPlan& plan, const OutputCost& cost,
                         const std::atomic<bool>* is_cancelled);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_PLAN_FACTS_H_
