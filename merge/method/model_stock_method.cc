#include <algorithm>
#include <cmath>
#include <utility>

#include "merge/method/method_makers.h"
#include "merge/method/span_method.h"

namespace cairn {
namespace {

// base + t x (mean - base), where t = n c / (1 + (n-1) c) and c is the mean
// cosine of the pairs of task vectors.
class ModelStock : public SpanMethod {
 public:
  ModelStock(MethodTask task, VectorLayout layout)
      : SpanMethod(task, layout, task.Others(), true) {}

 protected:
  absl::StatusOr<std::vector<double>> Coefficients(
      const Gram& gram, int64_t vector) const override {
    const size_t n = gram.members();
    double cosines = 0;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = i + 1; j < n; ++j) {
        const double lengths =
            std::sqrt(gram.At(vector, i, i)) * std::sqrt(gram.At(vector, j, j));
        cosines += std::clamp(gram.At(vector, i, j) / std::max(1e-6, lengths),
                              -1.0, 1.0);
      }
    }
    const auto count = static_cast<double>(n);
    const double cosine = cosines / (count * (count - 1) / 2);
    const double denominator = 1 + (count - 1) * cosine;
    const double t =
        std::abs(denominator) < 1e-6 ? 0.0 : count * cosine / denominator;
    return std::vector<double>(n, t / count);
  }
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeModelStock(MethodTask task) {
  const VectorLayout layout = task.Shared("filter_wise") != 0
                                  ? VectorLayout::Rows(task.shape)
                                  : VectorLayout::Whole();
  return std::make_unique<ModelStock>(std::move(task), layout);
}

}  // namespace

MethodSpec ModelStockMethod() {
  return {.name = "model_stock",
          .source =
              "arXiv 2403.19522: base + t (mean - base), "
              "t = n c / (1 + (n-1) c), c the mean cosine",
          .base = MethodSpec::Base::kRequired,
          .inputs_min = 3,
          .is_on_deltas = true,
          .parameters = {SharedBool("filter_wise", false)},
          .make = MakeModelStock};
}

}  // namespace cairn
