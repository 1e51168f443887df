#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"
#include "merge/method/method_makers.h"
#include "merge/method/rank_selector.h"
#include "merge/method/tile_math.h"

namespace cairn {

namespace internal {

CAIRN_VECTOR_CLONES void Nearswap(float t, const float* a, const float* b,
                                  float* out, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    out[i] = NearswapElement(t, a[i], b[i]);
  }
}

}  // namespace internal

namespace {

class NearswapPair : public TensorMethod {
 public:
  explicit NearswapPair(const MethodTask& task)
      : base_(*task.base),
        other_(task.Others().front()),
        t_(static_cast<float>(task.Shared("t"))) {}

  void Combine(const InputTile& tile, float* out) override {
    internal::Nearswap(t_, tile.inputs[base_], tile.inputs[other_], out,
                       tile.count);
  }
  std::optional<ElementFormula> Formula() const override {
    ElementFormula formula =
        ElementFormula::Of(ElementKind::kNearswap, base_, {other_});
    formula.rule.level = t_;
    return formula;
  }

 private:
  const size_t base_, other_;
  const float t_;
};

// Takes the other's elements where they matter: importance is |difference| x
// the divergence of the rows' softmaxes; what is at least median + 1.5 times
// the quartiles' distance is taken.
class ArceeFusion : public TensorMethod {
 public:
  explicit ArceeFusion(const MethodTask& task)
      : base_(*task.base),
        other_(task.Others().front()),
        row_(task.shape.empty() ? 1 : task.shape.back()),
        elements_(task.elements()),
        selector_(Quartiles(elements_)),
        scores_(static_cast<size_t>(std::max<int64_t>(1, row_))) {}

  int64_t granule() const override { return std::max<int64_t>(1, row_); }
  int passes() const override { return RankSelector::kPasses; }
  int64_t memory_bytes() const override {
    return RankSelector::MemoryBytes(3) + row_ * 4;
  }

  void Observe(int pass, const InputTile& tile) override {
    const auto row = static_cast<size_t>(row_);
    for (size_t begin = 0; begin < tile.count; begin += row) {
      Score(tile, begin);
      selector_.Count(pass, scores_.data(), row);
    }
  }

  absl::Status EndPass(int pass) override {
    selector_.EndPass(pass);
    if (pass + 1 < RankSelector::kPasses) return absl::OkStatus();
    const float q1 = selector_.Value(0), median = selector_.Value(1),
                q3 = selector_.Value(2);
    threshold_ = median + 1.5f * (q3 - q1);
    return absl::OkStatus();
  }

  void Combine(const InputTile& tile, float* out) override {
    const auto row = static_cast<size_t>(row_);
    for (size_t begin = 0; begin < tile.count; begin += row) {
      Score(tile, begin);
      for (size_t i = 0; i < row; ++i) {
        out[begin + i] = scores_[i] >= threshold_
                             ? tile.inputs[other_][begin + i]
                             : tile.inputs[base_][begin + i];
      }
    }
  }

 private:
  static std::vector<int64_t> Quartiles(int64_t elements) {
    const auto last = static_cast<double>(elements - 1);
    return {static_cast<int64_t>(0.25 * last), static_cast<int64_t>(0.5 * last),
            static_cast<int64_t>(0.75 * last)};
  }

  // The largest value of a row and the logarithm of the sum of exponentials
  // less it.
  static std::pair<double, double> LogSum(const float* values, size_t count) {
    const auto largest =
        static_cast<double>(*std::max_element(values, values + count));
    double sum = 0;
    for (size_t i = 0; i < count; ++i) {
      sum += std::exp(static_cast<double>(values[i]) - largest);
    }
    return {largest, sum};
  }

  void Score(const InputTile& tile, size_t begin) {
    constexpr double kTiny = 1e-8;
    const auto row = static_cast<size_t>(row_);
    const float* base = tile.inputs[base_] + begin;
    const float* other = tile.inputs[other_] + begin;
    const auto [other_most, other_sum] = LogSum(other, row);
    const auto [base_most, base_sum] = LogSum(base, row);
    double divergence = 0;
    for (size_t i = 0; i < row; ++i) {
      const double p =
          std::exp(static_cast<double>(other[i]) - other_most) / other_sum +
          kTiny;
      const double q =
          std::exp(static_cast<double>(base[i]) - base_most) / base_sum + kTiny;
      divergence += p * std::log(p / q);
    }
    const auto factor = static_cast<float>(divergence);
    for (size_t i = 0; i < row; ++i) {
      scores_[i] = std::max(0.0f, std::fabs(other[i] - base[i]) * factor);
    }
  }

  const size_t base_, other_;
  const int64_t row_, elements_;
  RankSelector selector_;
  std::vector<float> scores_;
  float threshold_ = 0;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeNearswap(MethodTask task) {
  return std::make_unique<NearswapPair>(task);
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeArceeFusion(MethodTask task) {
  return std::make_unique<ArceeFusion>(task);
}

}  // namespace

MethodSpec NearswapMethod() {
  return {.name = "nearswap",
          .source =
              "huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001: "
              "moves base towards the model by min(1, t / distance)",
          .base = MethodSpec::Base::kRequired,
          .inputs_min = 2,
          .inputs_max = 2,
          .is_symmetric = false,
          .parameters = {{.name = "t", .least = -kLargest, .most = kLargest}},
          .make = MakeNearswap};
}

MethodSpec ArceeFusionMethod() {
  return {.name = "arcee_fusion",
          .source =
              "arcee.ai: takes what is important by |difference| x "
              "divergence of the rows' softmaxes",
          .base = MethodSpec::Base::kRequired,
          .inputs_min = 2,
          .inputs_max = 2,
          .is_symmetric = false,
          .make = MakeArceeFusion};
}

}  // namespace cairn
