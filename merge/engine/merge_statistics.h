#ifndef CAIRN_MERGE_ENGINE_MERGE_STATISTICS_H_
#define CAIRN_MERGE_ENGINE_MERGE_STATISTICS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "merge/engine/merge_plan.h"
#include "merge/method/tensor_method.h"

namespace cairn {

// What the authors of updates measured, as methods ask for it.

// Adds to the task of one tensor what its method asks for: after the updates
// an input for each one's Fisher diagonal, in their order; or each one's Gram
// matrix, which is read now unless `bytes` is given, to which their size is
// then added. FAILED_PRECONDITION naming contribution and tensor when an
// update brings no diagonal.
absl::Status AddStatistics(const MergePlan& plan, const PlannedTensor& planned,
                           const MethodSpec& method,
                           const std::vector<size_t>& participants,
                           MethodTask& task, int64_t* bytes);

// Whether the method reads a diagonal beside every update.
bool WantsFisher(const MethodSpec& method);

// Elements from `first` on of the diagonal of an update that has one.
absl::Status ReadFisher(const MergeInput& input, const PlannedTensor& planned,
                        int64_t first, absl::Span<float> out);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MERGE_STATISTICS_H_
