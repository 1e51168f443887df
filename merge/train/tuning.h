#ifndef CAIRN_MERGE_TRAIN_TUNING_H_
#define CAIRN_MERGE_TRAIN_TUNING_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "merge/train/adamw.h"

namespace cairn {

// A weight of a model that runs: float32, contiguous, and the very storage
// that the model's forward reads.
struct TunedWeight {
  std::string name;
  at::Tensor tensor;
};

// What a method of fine-tuning trains, and how that acts on the weights of
// the model. The loss is always differentiated by the tuned weights; a Tuning
// turns that gradient into one by its own, possibly far fewer, parameters.
// All arithmetic runs on the calling thread in a fixed order.
class Tuning {
 public:
  virtual ~Tuning() = default;

  // The weights that the loss is differentiated by. A gradient by them is a
  // vector that holds them one after another.
  const std::vector<TunedWeight>& weights() const { return weights_; }
  size_t weight_count() const;

  // The trained parameters; the trainer changes them, then calls Apply.
  absl::Span<float> values() { return absl::MakeSpan(values_); }
  absl::Span<const float> values() const { return values_; }

  // The ranges of values() that weight decay applies to.
  virtual std::vector<ParameterRange> decayed() const = 0;

  // Sets the tuned weights from values().
  virtual void Apply() = 0;

  // The gradient by values(), from that by the tuned weights.
  virtual void Reduce(absl::Span<const float> gradient,
                      absl::Span<float> out) const = 0;

 protected:
  explicit Tuning(std::vector<TunedWeight> weights)
      : weights_(std::move(weights)) {}

  std::vector<TunedWeight> weights_;
  std::vector<float> values_;
};

// Trains every weight given; the values are the weights themselves.
std::unique_ptr<Tuning> MakeFullTuning(std::vector<TunedWeight> weights);

// A view of a contiguous float32 tensor's values.
absl::Span<float> FloatsOf(const at::Tensor& tensor);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TUNING_H_
