#include "merge/train/adamw.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/base/log.h"

namespace cairn {

AdamW::AdamW(AdamWOptions options, size_t parameters,
             std::vector<ParameterRange> decayed)
    : options_(options),
      decayed_(std::move(decayed)),
      first_(parameters),
      second_(parameters) {}

void AdamW::Step(double rate, int64_t step, absl::Span<const float> gradient,
                 absl::Span<float> values) {
  CAIRN_CHECK(gradient.size() == first_.size());
  CAIRN_CHECK(values.size() == first_.size());
  if (options_.weight_decay > 0) {
    const auto keep = static_cast<float>(1 - rate * options_.weight_decay);
    for (const ParameterRange& range : decayed_) {
      for (size_t i = range.begin; i < range.end; ++i) values[i] *= keep;
    }
  }
  const auto beta1 = static_cast<float>(options_.beta1);
  const auto beta2 = static_cast<float>(options_.beta2);
  const auto epsilon = static_cast<float>(options_.epsilon);
  const auto t = static_cast<double>(step);
  const auto scale =
      static_cast<float>(rate / (1 - std::pow(options_.beta1, t)));
  const auto correction =
      static_cast<float>(1 / std::sqrt(1 - std::pow(options_.beta2, t)));
  float* m = first_.data();
  float* v = second_.data();
  for (size_t i = 0; i < values.size(); ++i) {
    const float g = gradient[i];
    m[i] = beta1 * m[i] + (1 - beta1) * g;
    v[i] = beta2 * v[i] + (1 - beta2) * g * g;
    values[i] -= scale * m[i] / (std::sqrt(v[i]) * correction + epsilon);
  }
}

double LearningRate(const Schedule& schedule, int64_t step) {
  const auto steps = static_cast<double>(schedule.steps);
  const double warmup = std::floor(schedule.warmup * steps);
  const auto at = static_cast<double>(step);
  if (at <= warmup) return schedule.peak * at / warmup;
  const double left = (steps - at + 1) / (steps - warmup);
  switch (schedule.shape) {
    case ScheduleShape::kConstant:
      return schedule.peak;
    case ScheduleShape::kLinear:
      return schedule.peak * left;
    case ScheduleShape::kCosine:
      return schedule.peak * 0.5 * (1 - std::cos(std::numbers::pi * left));
  }
  return 0;
}

double ClipNorm(double norm_max, absl::Span<float> gradient) {
  double sum = 0;
  for (const float g : gradient) sum += static_cast<double>(g) * g;
  const double norm = std::sqrt(sum);
  if (norm_max > 0 && norm > norm_max) {
    const auto scale = static_cast<float>(norm_max / norm);
    for (float& g : gradient) g *= scale;
  }
  return norm;
}

}  // namespace cairn
