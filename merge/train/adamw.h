#ifndef CAIRN_MERGE_TRAIN_ADAMW_H_
#define CAIRN_MERGE_TRAIN_ADAMW_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace cairn {

// A range of parameters, as offsets into the vector of all of them.
struct ParameterRange {
  size_t begin = 0;
  size_t end = 0;
};

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

// AdamW (Loshchilov and Hutter 2019, algorithm 2) over a vector of floats:
// decoupled decay, bias-corrected moments. Elementwise, so the same bits on
// any number of threads. Not thread-safe.
class AdamW {
 public:
  // Decay applies to `decayed` ranges only; norms and biases are left out.
  AdamW(AdamWOptions options, size_t parameters,
        std::vector<ParameterRange> decayed);

  // One step of learning rate `rate`; `step` counts from 1.
  void Step(double rate, int64_t step, absl::Span<const float> gradient,
            absl::Span<float> values);

  // First and second moments: with values and step, the state of a run.
  absl::Span<float> first() { return absl::MakeSpan(first_); }
  absl::Span<float> second() { return absl::MakeSpan(second_); }

 private:
  const AdamWOptions options_;
  const std::vector<ParameterRange> decayed_;
  std::vector<float> first_;
  std::vector<float> second_;
};

enum class ScheduleShape { kConstant, kLinear, kCosine };

// Warm-up from 0 over the first `warmup` of the steps, then the shape, down
// to 0 at the end unless constant.
struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 1e-3;
  double warmup = 0.1;
  int64_t steps = 1;
};

// The learning rate of `step`, which counts from 1 to schedule.steps.
double LearningRate(const Schedule& schedule, int64_t step);

// Scales `gradient` so that its Euclidean norm is at most `norm_max` (0 turns
// that off). Returns the norm before; summed in order, in double.
double ClipNorm(double norm_max, absl::Span<float> gradient);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_ADAMW_H_
