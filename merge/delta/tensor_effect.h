#ifndef CAIRN_MERGE_DELTA_TENSOR_EFFECT_H_
#define CAIRN_MERGE_DELTA_TENSOR_EFFECT_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace cairn {

// What an adapter does to one tensor of its base, in float32. Thread-safe. An
// element comes out the same whatever range it is asked for in.
class TensorEffect {
 public:
  virtual ~TensorEffect() = default;

  // Turns the base's elements from `first` on into the tuned ones, in place.
  virtual absl::Status Apply(int64_t first, absl::Span<float> values) const = 0;
  // sum += weight x (tuned - base), where `base` has the base's elements.
  virtual absl::Status AddChange(int64_t first, absl::Span<const float> base,
                                 float weight, absl::Span<float> sum) const = 0;
  // Bytes that it holds in memory.
  virtual int64_t memory_bytes() const = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_DELTA_TENSOR_EFFECT_H_
