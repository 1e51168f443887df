#ifndef CAIRN_MERGE_ENGINE_MERGE_EXECUTOR_H_
#define CAIRN_MERGE_ENGINE_MERGE_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/v1/common.pb.h"
#include "cairn/v1/manifest.pb.h"
#include "core/tensor/checkpoint.h"
#include "merge/engine/merge_plan.h"

namespace cairn {

// Takes the packed bytes of a merged tensor, from `offset` on; those of one
// tensor come in order, different tensors at the same time from several
// threads.
using TensorSink =
    std::function<absl::Status(const CheckpointTensor& tensor, int64_t offset,
                               absl::Span<const char> bytes)>;

// Told of the bytes done so far of plan.bytes_written, from several threads.
using MergeProgress = std::function<void(int64_t bytes_done)>;

// A merged model: the head's tensors but for `changed`.
struct MergeOutcome {
  // Every tensor; files and offsets are the head's.
  v1::TensorManifest tensors;
  // Names of the tensors that the sink got, sorted.
  std::vector<std::string> changed;
  // How it was made; without the search.
  v1::MergeRecord record;
  // The digest of the merged model.
  std::string digest;
};

// Merges as planned. Tensors are taken tile by tile: head and deltas are read,
// the deltas combined and added to the head in float32, and the sum rounded
// once to the head's dtype. The bytes do not depend on threads, memory, the
// order of inputs or the machine. INVALID_ARGUMENT with NON_FINITE when a
// merged element is not finite in the head's dtype.
absl::StatusOr<MergeOutcome> RunMerge(const MergeRequest& request,
                                      const MergePlan& plan,
                                      const TensorSink& sink,
                                      const MergeProgress& progress = nullptr);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MERGE_EXECUTOR_H_
