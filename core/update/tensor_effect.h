#ifndef CAIRN_CORE_UPDATE_TENSOR_EFFECT_H_
#define CAIRN_CORE_UPDATE_TENSOR_EFFECT_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/dtype.h"

namespace cairn {

// What an update does to one tensor of its base, in float32. Thread-safe. An
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
  // Whether the change is the same whatever the base's elements are, so that
  // AddChange() does not look at them.
  virtual bool is_additive() const { return false; }
};

using Effect = std::shared_ptr<const TensorEffect>;

// The base's tensor that an effect is for.
struct BaseValues {
  DType dtype = DType::kF32;
  // Packed bytes; null for a tensor that starts from nothing.
  const ByteSource* bytes = nullptr;

  // Elements from `first` on, as numbers.
  absl::Status Read(int64_t first, absl::Span<float> out) const;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_TENSOR_EFFECT_H_
