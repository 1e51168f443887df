#ifndef CAIRN_CORE_UPDATE_TENSOR_EFFECT_H_
#define CAIRN_CORE_UPDATE_TENSOR_EFFECT_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
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
  // Bytes that it holds in memory, or once it is loaded.
  virtual int64_t memory_bytes() const = 0;
  // Whether the change is the same whatever the base's elements are, so that
  // AddChange() does not look at them.
  virtual bool is_additive() const { return false; }
  // The same effect with what it reads in memory, for as long as a tensor is
  // worked on; null where this one is as good. This one outlives it.
  virtual absl::StatusOr<std::shared_ptr<const TensorEffect>> Load() const {
    return nullptr;
  }
};

using Effect = std::shared_ptr<const TensorEffect>;

// effect->Load(), or the effect itself where that is as good.
absl::StatusOr<Effect> Loaded(const Effect& effect);

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
