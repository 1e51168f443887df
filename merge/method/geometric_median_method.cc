#include <algorithm>
#include <cmath>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/span_method.h"

namespace cairn {
namespace {

// The point with the least sum of weighted distances to the inputs, by
// Weiszfeld's iteration on the coefficients of the inputs.
class GeometricMedian : public SpanMethod {
 public:
  explicit GeometricMedian(MethodTask task)
      : SpanMethod(task, VectorLayout::Whole(), task.Others(), true),
        steps_(static_cast<int>(task.Shared("max_iter"))),
        tolerance_(task.Shared("tol")) {
    for (size_t i : task.Others()) {
      weights_.push_back(task.inputs[i].parameters.at("weight"));
    }
  }

 protected:
  absl::StatusOr<std::vector<double>> Coefficients(const Gram& gram,
                                                   int64_t) const override {
    std::vector<double> mean = Normalized(weights_);
    double longest = 0;
    for (size_t i = 0; i < mean.size(); ++i) {
      longest = std::max(longest, std::sqrt(gram.At(0, i, i)));
    }
    if (longest == 0) return mean;
    for (int step = 0; step < steps_; ++step) {
      std::vector<double> next(mean.size());
      for (size_t i = 0; i < mean.size(); ++i) {
        next[i] = weights_[i] /
                  std::max(Distance(gram, mean, i), tolerance_ * longest);
      }
      next = Normalized(std::move(next));
      double moved = 0;
      for (size_t i = 0; i < mean.size(); ++i) {
        moved = std::max(moved, std::abs(next[i] - mean[i]));
      }
      mean = std::move(next);
      if (moved < tolerance_) break;
    }
    return mean;
  }

 private:
  static std::vector<double> Normalized(std::vector<double> weights) {
    double sum = 0;
    for (double weight : weights) sum += weight;
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  // |input i - the mean|
  static double Distance(const Gram& gram, const std::vector<double>& mean,
                         size_t i) {
    double square = gram.At(0, i, i);
    for (size_t j = 0; j < mean.size(); ++j) {
      square -= 2 * mean[j] * gram.At(0, i, j);
      for (size_t k = 0; k < mean.size(); ++k) {
        square += mean[j] * mean[k] * gram.At(0, j, k);
      }
    }
    return std::sqrt(std::max(0.0, square));
  }

  const int steps_;
  const double tolerance_;
  std::vector<double> weights_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeGeometricMedian(
    MethodTask task) {
  double sum = 0;
  for (size_t i : task.Others()) {
    sum += task.inputs[i].parameters.at("weight");
  }
  if (sum <= 0) {
    return absl::InvalidArgumentError(
        "parameter weight: at least one weight must be above 0");
  }
  return std::make_unique<GeometricMedian>(std::move(task));
}

}  // namespace

MethodSpec GeometricMedianMethod() {
  return {.name = "geometric_median",
          .source =
              "arXiv 1912.13445 (RFA): per tensor, by Weiszfeld's "
              "iteration",
          .base = MethodSpec::Base::kOptional,
          .others_min = 1,
          .is_on_deltas = true,
          .parameters = {OtherNumber("weight", 1.0, 0, kLargest),
                         {.name = "max_iter",
                          .kind = MethodParameter::Kind::kInteger,
                          .fallback = 100,
                          .least = 0,
                          .most = 10000},
                         SharedNumber("tol", 1e-6, 1e-12, 1)},
          .make = MakeGeometricMedian};
}

}  // namespace cairn
