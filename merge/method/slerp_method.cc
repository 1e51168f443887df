#include <algorithm>
#include <cmath>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/span_method.h"

namespace cairn {
namespace {

// Interpolation on the sphere between two vectors, by t; a straight line when
// they are nearly parallel.
class Slerp : public SpanMethod {
 public:
  explicit Slerp(MethodTask task)
      : SpanMethod(task, VectorLayout::Whole(),
                   {*task.base, task.Others().front()}, false),
        t_(task.Shared("t")) {}

 protected:
  absl::StatusOr<std::vector<double>> Coefficients(
      const Gram& gram, int64_t vector) const override {
    constexpr double kParallel = 0.9995, kTiny = 1e-8;
    const auto norm = [&](size_t i) {
      const double length = std::sqrt(gram.At(vector, i, i));
      return length > kTiny ? length : 1.0;
    };
    const double dot =
        std::clamp(gram.At(vector, 0, 1) / norm(0) / norm(1), -1.0, 1.0);
    if (std::abs(dot) > kParallel) return std::vector<double>{1 - t_, t_};
    const double theta = std::acos(dot);
    return std::vector<double>{std::sin((1 - t_) * theta) / std::sin(theta),
                               std::sin(t_ * theta) / std::sin(theta)};
  }

 private:
  const double t_;
};

// The same for two weighted inputs, of whole tensors, rows or columns, and of
// task vectors where there is a base.
class Nuslerp : public SpanMethod {
 public:
  Nuslerp(MethodTask task, VectorLayout layout, double t)
      : SpanMethod(task, layout, task.Others(), true), t_(t) {}

 protected:
  absl::StatusOr<std::vector<double>> Coefficients(
      const Gram& gram, int64_t vector) const override {
    constexpr double kTiny = 1e-7, kParallel = 1e-16;
    const auto norm = [&](size_t i) {
      return std::max(kTiny, std::sqrt(gram.At(vector, i, i)));
    };
    const double cosine =
        std::clamp(gram.At(vector, 0, 1) / norm(0) / norm(1), -1.0, 1.0);
    if (1 - cosine * cosine <= kParallel) {
      return std::vector<double>{1 - t_, t_};
    }
    const double theta = std::acos(cosine);
    return std::vector<double>{std::sin((1 - t_) * theta) / std::sin(theta),
                               std::sin(t_ * theta) / std::sin(theta)};
  }

 private:
  const double t_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeSlerp(MethodTask task) {
  return std::make_unique<Slerp>(std::move(task));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeNuslerp(MethodTask task) {
  const std::vector<size_t> others = task.Others();
  const double second = task.inputs[others[1]].parameters.at("weight");
  const double total = task.inputs[others[0]].parameters.at("weight") + second;
  const double t = std::abs(total) < 1e-6 ? 0.5 : second / total;
  VectorLayout layout = VectorLayout::Whole();
  if (task.Shared("nuslerp_flatten") == 0) {
    layout = task.Shared("nuslerp_row_wise") != 0
                 ? VectorLayout::Columns(task.shape)
                 : VectorLayout::Rows(task.shape);
  }
  return std::make_unique<Nuslerp>(std::move(task), layout, t);
}

}  // namespace

MethodSpec SlerpMethod() {
  return {.name = "slerp",
          .source =
              "en.wikipedia.org/wiki/Slerp: sin((1-t)W)/sin(W) a + "
              "sin(tW)/sin(W) b, W the angle of base a and model b",
          .base = MethodSpec::Base::kRequired,
          .inputs_min = 2,
          .inputs_max = 2,
          .is_symmetric = false,
          .parameters = {{.name = "t", .least = -kLargest, .most = kLargest}},
          .make = MakeSlerp};
}

MethodSpec NuslerpMethod() {
  return {
      .name = "nuslerp",
      .source = "slerp by weights, of task vectors where there is a base",
      .base = MethodSpec::Base::kOptional,
      .others_min = 2,
      .others_max = 2,
      .is_symmetric = false,
      .parameters = {OtherNumber("weight", std::nullopt, -kLargest, kLargest),
                     SharedBool("nuslerp_flatten", true),
                     SharedBool("nuslerp_row_wise", false)},
      .make = MakeNuslerp};
}

}  // namespace cairn
