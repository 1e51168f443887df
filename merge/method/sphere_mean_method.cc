#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/span_method.h"

namespace cairn {
namespace {

using Vector = std::vector<double>;

// Inner product of two combinations of the members.
double Dot(const Gram& gram, const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    for (size_t j = 0; j < b.size(); ++j) sum += a[i] * b[j] * gram.At(0, i, j);
  }
  return sum;
}

double Norm(const Gram& gram, const Vector& a) {
  return std::sqrt(std::max(0.0, Dot(gram, a, a)));
}

void AddTo(Vector& sum, double factor, const Vector& a) {
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += factor * a[i];
}

// Weighted mean on the sphere: in the tangent space at the straight mean.
class Multislerp : public SpanMethod {
 public:
  Multislerp(MethodTask task, Vector weights)
      : SpanMethod(task, VectorLayout::Whole(), task.Others(), true),
        weights_(std::move(weights)),
        tiny_(task.Shared("eps")) {}

 protected:
  absl::StatusOr<Vector> Coefficients(const Gram& gram,
                                      int64_t) const override {
    const size_t n = weights_.size();
    Vector norms(n), mean(n);
    for (size_t i = 0; i < n; ++i) {
      norms[i] = std::sqrt(gram.At(0, i, i));
      mean[i] = weights_[i] / (norms[i] + tiny_);
    }
    const Vector sum = mean;
    const double length = Norm(gram, mean);
    if (length < tiny_) {
      if (n == 2) return weights_;
      return absl::InvalidArgumentError(
          "the weighted sum of the inputs' directions is zero: change a "
          "weight");
    }
    for (double& m : mean) m /= length;
    double along = 0;
    for (size_t i = 0; i < n; ++i) {
      Vector unit(n, 0.0);
      unit[i] = 1 / (norms[i] + tiny_);
      along += weights_[i] * Dot(gram, unit, mean);
    }
    Vector tangent = sum;
    AddTo(tangent, -along, mean);
    const double angle = Norm(gram, tangent) + tiny_;
    const double radius =
        std::inner_product(norms.begin(), norms.end(), weights_.begin(), 0.0);
    Vector result(n, 0.0);
    AddTo(result, radius * std::cos(angle), mean);
    AddTo(result, radius * std::sin(angle) / angle, tangent);
    return result;
  }

 private:
  const Vector weights_;
  const double tiny_;
};

// The mean on the sphere that all inputs have the least squared angle to,
// found by steps in the tangent space, times the mean length.
class Karcher : public SpanMethod {
 public:
  Karcher(MethodTask task, std::vector<size_t> all)
      : SpanMethod(task, VectorLayout::Whole(), std::move(all), false),
        steps_(static_cast<int>(task.Shared("max_iter"))),
        tolerance_(task.Shared("tol")) {}

 protected:
  absl::StatusOr<Vector> Coefficients(const Gram& gram,
                                      int64_t) const override {
    const size_t n = gram.members();
    std::vector<Vector> units;
    double radius = 0;
    for (size_t i = 0; i < n; ++i) {
      const double norm = std::sqrt(gram.At(0, i, i));
      radius += norm / static_cast<double>(n);
      if (norm <= tolerance_) continue;
      units.emplace_back(n, 0.0);
      units.back()[i] = 1 / norm;
    }
    if (units.empty()) return Vector(n, 0.0);
    const double share = 1.0 / static_cast<double>(units.size());
    Vector mean(n, 0.0);
    for (const Vector& unit : units) AddTo(mean, share, unit);
    const double length = Norm(gram, mean);
    if (length < tolerance_) mean = units[0];
    if (length >= tolerance_) {
      for (double& m : mean) m /= length;
    }
    for (int step = 0; step < steps_; ++step) {
      if (!Step(gram, units, share, mean)) break;
    }
    for (double& m : mean) m *= radius;
    return mean;
  }

 private:
  // Moves the mean; false when it has arrived.
  bool Step(const Gram& gram, const std::vector<Vector>& units, double share,
            Vector& mean) const {
    Vector tangent(mean.size(), 0.0);
    for (const Vector& unit : units) {
      const double dot = std::clamp(Dot(gram, mean, unit), -1.0, 1.0);
      const double theta = std::acos(dot);
      if (theta < tolerance_) continue;
      const double factor = share * theta / std::sin(theta);
      AddTo(tangent, factor, unit);
      AddTo(tangent, -factor * dot, mean);
    }
    const double angle = Norm(gram, tangent);
    if (angle < tolerance_) return false;
    for (double& m : mean) m *= std::cos(angle);
    AddTo(mean, std::sin(angle) / angle, tangent);
    const double length = Norm(gram, mean);
    if (length > tolerance_) {
      for (double& m : mean) m /= length;
    }
    return true;
  }

  const int steps_;
  const double tolerance_;
};

// The result is one input as it is.
class Single : public TensorMethod {
 public:
  explicit Single(size_t input) : input_(input) {}
  void Combine(const InputTile& tile, float* out) override {
    std::copy_n(tile.inputs[input_], tile.count, out);
  }

 private:
  const size_t input_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMultislerp(MethodTask task) {
  const std::vector<size_t> others = task.Others();
  if (others.size() == 1) return std::make_unique<Single>(others[0]);
  Vector weights;
  double sum = 0;
  for (size_t i : others) {
    weights.push_back(task.inputs[i].parameters.at("weight"));
    sum += weights.back();
  }
  if (task.Shared("normalize_weights") != 0) {
    if (std::abs(sum) < 1e-12) {
      return absl::InvalidArgumentError(
          "parameter weight: the weights sum to 0, so they cannot be "
          "normalized");
    }
    for (double& weight : weights) weight /= sum;
  }
  return std::make_unique<Multislerp>(std::move(task), std::move(weights));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeKarcher(MethodTask task) {
  std::vector<size_t> all(task.inputs.size());
  std::iota(all.begin(), all.end(), size_t{0});
  if (all.size() == 1) return std::make_unique<Single>(0);
  return std::make_unique<Karcher>(std::move(task), std::move(all));
}

}  // namespace

MethodSpec MultislerpMethod() {
  return {
      .name = "multislerp",
      .source =
          "goddard.blog/posts/multislerp-wow-what-a-cool-idea: "
          "barycentric interpolation on a hypersphere",
      .base = MethodSpec::Base::kOptional,
      .others_min = 1,
      .parameters = {OtherNumber("weight", std::nullopt, -kLargest, kLargest),
                     SharedBool("normalize_weights", true),
                     SharedNumber("eps", 1e-8, 0, 1)},
      .make = MakeMultislerp};
}

MethodSpec KarcherMethod() {
  return {.name = "karcher",
          .source = "arXiv 2603.04972: Riemannian centre of mass on the sphere",
          .parameters = {{.name = "max_iter",
                          .kind = MethodParameter::Kind::kInteger,
                          .fallback = 10,
                          .least = 0,
                          .most = 10000},
                         SharedNumber("tol", 1e-5, 0, 1)},
          .make = MakeKarcher};
}

}  // namespace cairn
