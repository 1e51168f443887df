#ifndef CAIRN_MERGE_COMPRESS_CHANGE_SOURCE_H_
#define CAIRN_MERGE_COMPRESS_CHANGE_SOURCE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/checkpoint.h"
#include "merge/delta/update_delta.h"

namespace cairn {

// What is between a base and a tuned model, tensor by tensor: tau in float32.
class ChangeSource {
 public:
  virtual ~ChangeSource() = default;

  // Tensors that may have changed, by name, as the base has them.
  virtual const std::vector<TensorSpec>& tensors() const = 0;
  // tau of one of them. Refers to the source.
  virtual absl::StatusOr<std::unique_ptr<TensorDelta>> Open(
      const TensorSpec& tensor) const = 0;
};

// tuned - base, for a checkpoint that has tensors of its base; both outlive the
// result. INVALID_ARGUMENT with reason UNKNOWN_TENSOR, SHAPE_MISMATCH,
// DTYPE_MISMATCH, or UNSUPPORTED for integers that changed.
absl::StatusOr<std::unique_ptr<ChangeSource>> MakeCheckpointChange(
    const Checkpoint& base, const Checkpoint& tuned);

// The weights of a checkpoint themselves, of numeric tensors; it outlives the
// result.
std::unique_ptr<ChangeSource> MakeWeights(const Checkpoint& checkpoint);

// What an adapter does to `base`: PEFT of any kind that can be merged, or a
// Cairn update made for it. Adapters that resize or add tensors are
// UNSUPPORTED.
absl::StatusOr<std::unique_ptr<ChangeSource>> MakeAdapterChange(
    std::shared_ptr<Checkpoint> base, const std::string& base_directory,
    const std::string& adapter_directory);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_CHANGE_SOURCE_H_
