#include "merge/train/tuning.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace cairn {
namespace {

class FullTuning : public Tuning {
 public:
  explicit FullTuning(std::vector<TunedWeight> weights)
      : Tuning(std::move(weights)) {
    for (const TunedWeight& weight : weights_) {
      const absl::Span<float> floats = FloatsOf(weight.tensor);
      values_.insert(values_.end(), floats.begin(), floats.end());
    }
  }

  std::vector<ParameterRange> decayed() const override {
    std::vector<ParameterRange> ranges;
    size_t begin = 0;
    for (const TunedWeight& weight : weights_) {
      const auto count = static_cast<size_t>(weight.tensor.numel());
      if (weight.tensor.dim() >= 2) ranges.push_back({begin, begin + count});
      begin += count;
    }
    return ranges;
  }

  void Apply() override {
    const float* from = values_.data();
    for (const TunedWeight& weight : weights_) {
      const absl::Span<float> floats = FloatsOf(weight.tensor);
      std::copy_n(from, floats.size(), floats.begin());
      from += floats.size();
    }
  }

  void Reduce(absl::Span<const float> gradient,
              absl::Span<float> out) const override {
    std::copy(gradient.begin(), gradient.end(), out.begin());
  }
};

}  // namespace

size_t Tuning::weight_count() const {
  size_t count = 0;
  for (const TunedWeight& weight : weights_) {
    count += static_cast<size_t>(weight.tensor.numel());
  }
  return count;
}

std::unique_ptr<Tuning> MakeFullTuning(std::vector<TunedWeight> weights) {
  return std::make_unique<FullTuning>(std::move(weights));
}

absl::Span<float> FloatsOf(const at::Tensor& tensor) {
  CAIRN_CHECK(tensor.is_contiguous());
  return {tensor.data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

}  // namespace cairn
