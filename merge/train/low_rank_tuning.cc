#include "merge/train/low_rank_tuning.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/memory/memory.h"
#include "absl/strings/str_cat.h"
#include "merge/train/random.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<LowRankTuning>> LowRankTuning::Create(
    std::vector<TunedWeight> weights, const LowRankOptions& options) {
  for (const TunedWeight& weight : weights) {
    if (weight.tensor.dim() != 2) {
      return absl::InvalidArgumentError(
          absl::StrCat(weight.name, ": has ", weight.tensor.dim(),
                       " dimensions; LoRA trains matrices"));
    }
    const int64_t limit =
        2 * std::max(weight.tensor.size(0), weight.tensor.size(1));
    if (options.rank < 1 || options.rank > limit) {
      return absl::InvalidArgumentError(
          absl::StrCat("rank ", options.rank, " for ", weight.name,
                       "; must be from 1 to ", limit));
    }
  }
  return absl::WrapUnique(new LowRankTuning(std::move(weights), options));
}

LowRankTuning::LowRankTuning(std::vector<TunedWeight> weights,
                             const LowRankOptions& options)
    : Tuning(std::move(weights)),
      scale_(options.alpha / (options.rank_stabilised
                                  ? std::sqrt(static_cast<double>(options.rank))
                                  : static_cast<double>(options.rank))) {
  size_t count = 0;
  for (const TunedWeight& weight : weights_) {
    count += static_cast<size_t>(
        options.rank * (weight.tensor.size(0) + weight.tensor.size(1)));
  }
  values_.resize(count);
  float* next = values_.data();
  for (size_t i = 0; i < weights_.size(); ++i) {
    const int64_t outputs = weights_[i].tensor.size(0);
    const int64_t inputs = weights_[i].tensor.size(1);
    const CounterRandom random(options.seed, i);
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    for (int64_t j = 0; j < options.rank * inputs; ++j) {
      next[j] = static_cast<float>(
          bound * (2 * random.Uniform(static_cast<uint64_t>(j)) - 1));
    }
    Factors& factors = factors_.emplace_back();
    factors.name = weights_[i].name;
    factors.a = at::from_blob(next, {options.rank, inputs}, at::kFloat);
    next += options.rank * inputs;
    factors.b = at::from_blob(next, {outputs, options.rank}, at::kFloat);
    next += options.rank * outputs;
    base_.push_back(weights_[i].tensor.detach().clone());
  }
}

std::vector<ParameterRange> LowRankTuning::decayed() const {
  return {{0, values_.size()}};
}

void LowRankTuning::Apply() {
  for (size_t i = 0; i < weights_.size(); ++i) {
    const at::Tensor tuned =
        at::add(base_[i], at::mm(factors_[i].b, factors_[i].a), scale_);
    const absl::Span<const float> from = FloatsOf(tuned);
    std::copy(from.begin(), from.end(), FloatsOf(weights_[i].tensor).begin());
  }
}

void LowRankTuning::Reduce(absl::Span<const float> gradient,
                           absl::Span<float> out) const {
  const float* in = gradient.data();
  float* next = out.data();
  for (size_t i = 0; i < weights_.size(); ++i) {
    const at::Tensor& weight = weights_[i].tensor;
    const at::Tensor g = at::mul(
        at::from_blob(const_cast<float*>(in), weight.sizes(), at::kFloat),
        scale_);
    in += weight.numel();
    for (const at::Tensor& part :
         {at::mm(factors_[i].b.t(), g), at::mm(g, factors_[i].a.t())}) {
      const at::Tensor dense = part.contiguous();
      next = std::copy_n(dense.data_ptr<float>(), dense.numel(), next);
    }
  }
}

}  // namespace cairn
