#include <algorithm>
#include <cmath>
#include <utility>

#include "merge/method/element_math.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// base + lambda x a function of the task vectors of one element.
template <typename Choose>
class ElementwiseMethod : public TensorMethod {
 public:
  ElementwiseMethod(const MethodTask& task, ElementRule rule, Choose choose)
      : base_(*task.base),
        others_(task.Others()),
        lambda_(static_cast<float>(task.Shared("lambda"))),
        rule_(rule),
        choose_(std::move(choose)),
        taus_(others_.size()) {}

  void Combine(const InputTile& tile, float* out) override {
    const float* base = tile.inputs[base_];
    for (size_t i = 0; i < tile.count; ++i) {
      for (size_t k = 0; k < others_.size(); ++k) {
        taus_[k] = tile.inputs[others_[k]][i] - base[i];
      }
      out[i] = base[i] + lambda_ * choose_(taus_);
    }
  }

  std::optional<ElementFormula> Formula() const override {
    ElementFormula formula = ElementFormula::Of(rule_.kind, base_, others_);
    formula.rule.factor = lambda_;
    formula.rule.level = rule_.level;
    formula.rule.count = rule_.count;
    return formula;
  }

 private:
  const size_t base_;
  const std::vector<size_t> others_;
  const float lambda_;
  const ElementRule rule_;  // kind, level and count
  const Choose choose_;
  std::vector<float> taus_;
};

template <typename Choose>
std::unique_ptr<TensorMethod> Wrap(const MethodTask& task, ElementRule rule,
                                   Choose choose) {
  return std::make_unique<ElementwiseMethod<Choose>>(task, rule,
                                                     std::move(choose));
}

float Sum(const std::vector<float>& taus) {
  float sum = 0;
  for (float tau : taus) sum += tau;
  return sum;
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMagMax(MethodTask task) {
  const ElementRule rule = {.kind = ElementKind::kMagMax};
  return Wrap(task, rule, [](const std::vector<float>& taus) {
    float most = 0;
    for (float tau : taus) most = LargerMagnitude(most, tau);
    return most;
  });
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeEmr(MethodTask task) {
  const ElementRule rule = {.kind = ElementKind::kEmr};
  return Wrap(task, rule, [](const std::vector<float>& taus) {
    const float sign = ElectedSign(Sum(taus));
    float most = 0;
    for (float tau : taus) most = MaxOf(most, tau * sign);
    return most * sign;
  });
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeConsensus(MethodTask task) {
  const auto share = static_cast<float>(task.Shared("mask_lambda"));
  const auto least = static_cast<int>(task.Shared("agree"));
  const ElementRule rule = {
      .kind = ElementKind::kConsensus, .count = least, .level = share};
  return Wrap(task, rule, [share, least](const std::vector<float>& taus) {
    const float sum = Sum(taus);
    int users = 0;
    for (float tau : taus) {
      users += IsUser(tau, sum, share) ? 1 : 0;
    }
    return users >= least ? sum : 0.0f;
  });
}

// The mean of what is left when `trimmed` of each end are gone.
float TrimmedMean(std::vector<float>& taus, size_t trimmed) {
  std::sort(taus.begin(), taus.end(), ComesBefore);
  float sum = 0;
  for (size_t k = trimmed; k + trimmed < taus.size(); ++k) sum += taus[k];
  return sum / static_cast<float>(taus.size() - 2 * trimmed);
}

std::unique_ptr<TensorMethod> WrapTrimmedMean(const MethodTask& task,
                                              size_t trimmed) {
  const ElementRule rule = {.kind = ElementKind::kTrimmedMean,
                            .count = static_cast<int32_t>(trimmed)};
  return Wrap(task, rule, [trimmed](const std::vector<float>& taus) {
    thread_local std::vector<float> sorted;
    sorted = taus;
    return TrimmedMean(sorted, trimmed);
  });
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeTrimmedMean(MethodTask task) {
  const auto count = static_cast<double>(task.Others().size());
  return WrapTrimmedMean(task,
                         static_cast<size_t>(task.Shared("trim") * count));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMedian(MethodTask task) {
  return WrapTrimmedMean(task, (task.Others().size() - 1) / 2);
}

MethodSpec Spec(
    const char* name, const char* source, double lambda,
    std::vector<MethodParameter> parameters,
    absl::StatusOr<std::unique_ptr<TensorMethod>> (*make)(MethodTask)) {
  parameters.push_back(SharedNumber("lambda", lambda, -kLargest, kLargest));
  return {.name = name,
          .source = source,
          .base = MethodSpec::Base::kRequired,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = std::move(parameters),
          .make = make};
}

}  // namespace

std::vector<MethodSpec> ElementwiseMethods() {
  const MethodParameter agree = {.name = "agree",
                                 .kind = MethodParameter::Kind::kInteger,
                                 .fallback = 2,
                                 .least = 0,
                                 .most = 1 << 20};
  return {
      Spec("magmax",
           "arXiv 2407.06322: of each element the tau of largest magnitude",
           0.5, {}, MakeMagMax),
      Spec("emr",
           "arXiv 2405.17461: the largest magnitude of the elected sign; the "
           "unified vector, without the masks of single tasks",
           1.0, {}, MakeEmr),
      Spec("consensus_ta",
           "arXiv 2405.07813: sum of taus where at least `agree` of them have "
           "|tau| >= mask_lambda x |sum - tau|",
           0.3, {SharedNumber("mask_lambda", 0.4, 0, kLargest), agree},
           MakeConsensus),
      Spec("median",
           "arXiv 1803.01498: median of each element; the mean of the two in "
           "the middle of an even number",
           1.0, {}, MakeMedian),
      Spec("trimmed_mean",
           "arXiv 1803.01498: mean of each element without the share `trim` "
           "of either end",
           1.0, {SharedNumber("trim", 0.1, 0, 0.49)}, MakeTrimmedMean),
  };
}

}  // namespace cairn
