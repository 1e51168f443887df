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

// A LoRA's factors as they multiply to a tensor of the base, as it stores it:
// tau = scale * (left * right).
struct OrientedFactors {
  int64_t rank = 0;
  int64_t rows = 0;
  int64_t columns = 0;
  float scale = 1.0f;
  std::vector<float> left = {};   // [rows, rank], row-major
  std::vector<float> right = {};  // [rank, columns], row-major
};
OrientedFactors Orient(LoraFactors factors);

// tau = effect(base, update) - base of one tensor, in float32 and in the
// base's shape. Thread-safe.
class TensorDelta {
 public:
  virtual ~TensorDelta() = default;

  // Elements [first, first + out.size()) of the flattened tensor. Each element
  // is the same whatever range it is read in, on every machine.
  virtual absl::Status Read(int64_t first, absl::Span<float> out) const = 0;
};

// Opens tau of a tensor that `update` touches, against `base`, the checkpoint
// that the update was made on; both outlive the result. A LoRA's factors are
// held in memory, everything else is read as it is asked for. NOT_FOUND when
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
