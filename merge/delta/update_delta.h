#ifndef CAIRN_MERGE_DELTA_UPDATE_DELTA_H_
#define CAIRN_MERGE_DELTA_UPDATE_DELTA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"

namespace cairn {

// tau = effect(base, update) - base of one tensor, in float32 and in the
// base's shape. Thread-safe.
class TensorDelta {
 public:
  virtual ~TensorDelta() = default;

  // Elements [first, first + out.size()) of the flattened tensor. Each element
  // is the same whatever range it is read in, on every machine.
  virtual absl::Status Read(int64_t first, absl::Span<float> out) const = 0;
};

// OpenUpdateDirectory() for a base that is there.
absl::StatusOr<std::unique_ptr<Update>> OpenUpdateOn(
    const Checkpoint& base, const std::string& directory);

// Opens tau of a tensor that `update` touches, against `base`, the checkpoint
// that the update was made on; both outlive the result. Factors, and what else
// of an adapter an effect needs, are held in memory, everything else is read as it is asked for. NOT_FOUND when
// the update does not touch the tensor or the base lacks it.
absl::StatusOr<std::unique_ptr<TensorDelta>> OpenTensorDelta(
    const Update& update, const Checkpoint& base, absl::string_view tensor);

// base + tau of a touched tensor in float32, unrounded and flattened: how a
// contribution is evaluated.
absl::StatusOr<std::vector<float>> ReadTunedTensor(const Update& update,
                                                   const Checkpoint& base,
                                                   absl::string_view tensor);

// Whether an update fits a checkpoint, from headers alone; see
// CheckAgainstBase(). An empty `base_digest` leaves the base's identity
// unchecked.
absl::Status CheckFits(const Update& update, const Checkpoint& base,
                       absl::string_view base_digest = "");

}  // namespace cairn

#endif  // CAIRN_MERGE_DELTA_UPDATE_DELTA_H_
