#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {

namespace internal {

// Of kN inputs, element by element.
template <size_t kN>
CAIRN_INLINE void SumFewRam(const float* const* inputs, const float* base,
                            const float* factors, float epsilon, float* out,
                            size_t count) {
  CAIRN_IVDEP
  for (size_t i = 0; i < count; ++i) {
    float users = 0, shared = 0, unique = 0;
    for (size_t k = 0; k < kN; ++k) {
      AddRam(inputs[k][i] - base[i], factors[k], epsilon, users, shared,
             unique);
    }
    out[i] = RamElement(base[i], users, shared, unique);
  }
}

// Of a strip of `n` inputs: sums what one input alone changed, times its
// factor, and the mean of what several did.
CAIRN_VECTOR_CLONES void SumRam(const float* const* inputs, const float* base,
                                const float* factors, size_t n, float epsilon,
                                float* out, size_t count) {
  switch (n) {
    case 2:
      return SumFewRam<2>(inputs, base, factors, epsilon, out, count);
    case 3:
      return SumFewRam<3>(inputs, base, factors, epsilon, out, count);
    case 4:
      return SumFewRam<4>(inputs, base, factors, epsilon, out, count);
    default:
      break;
  }
  constexpr size_t kStrip = 256;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(kStrip, count - begin);
    float users[kStrip] = {}, shared[kStrip] = {}, unique[kStrip] = {};
    for (size_t k = 0; k < n; ++k) {
      const float* values = inputs[k] + begin;
      for (size_t i = 0; i < strip; ++i) {
        AddRam(values[i] - base[begin + i], factors[k], epsilon, users[i],
               shared[i], unique[i]);
      }
    }
    for (size_t i = 0; i < strip; ++i) {
      out[begin + i] =
          RamElement(base[begin + i], users[i], shared[i], unique[i]);
    }
  }
}

}  // namespace internal

namespace {

class Ram : public TensorMethod {
 public:
  Ram(MethodTask task, bool is_plus)
      : task_(std::move(task)),
        others_(task_.Others()),
        epsilon_(static_cast<float>(task_.Shared("epsilon"))),
        is_plus_(is_plus),
        shared_(others_.size(), 0),
        unique_(others_.size(), 0),
        factors_(others_.size(), 1.0f) {}

  int passes() const override { return is_plus_ ? 1 : 0; }

  void Observe(int, const InputTile& tile) override {
    const float* base = tile.inputs[*task_.base];
    for (size_t i = 0; i < tile.count; ++i) {
      size_t users = 0, last = 0;
      for (size_t k = 0; k < others_.size(); ++k) {
        if (std::fabs(tile.inputs[others_[k]][i] - base[i]) <= epsilon_) {
          continue;
        }
        ++users;
        last = k;
      }
      if (users == 1) ++unique_[last];
      if (users < 2) continue;
      for (size_t k = 0; k < others_.size(); ++k) {
        shared_[k] +=
            std::fabs(tile.inputs[others_[k]][i] - base[i]) > epsilon_ ? 1 : 0;
      }
    }
  }

  absl::Status EndPass(int) override {
    for (size_t k = 0; k < others_.size(); ++k) {
      const double rho =
          static_cast<double>(shared_[k]) /
          std::max(static_cast<double>(unique_[k]), task_.Shared("epsilon"));
      factors_[k] = static_cast<float>(
          1 + task_.Shared("r") * std::clamp(rho, 0.0, task_.Shared("alpha")));
    }
    return absl::OkStatus();
  }

  void Combine(const InputTile& tile, float* out) override {
    std::vector<const float*> values;
    for (size_t i : others_) values.push_back(tile.inputs[i]);
    internal::SumRam(values.data(), tile.inputs[*task_.base], factors_.data(),
                     values.size(), epsilon_, out, tile.count);
  }

  std::optional<ElementFormula> Formula() const override {
    ElementFormula formula =
        ElementFormula::Of(ElementKind::kRam, task_.base, others_, factors_);
    formula.rule.level = epsilon_;
    return formula;
  }

 private:
  const MethodTask task_;
  const std::vector<size_t> others_;
  const float epsilon_;
  const bool is_plus_;
  std::vector<int64_t> shared_, unique_;
  std::vector<float> factors_;
};

template <bool is_plus>
absl::StatusOr<std::unique_ptr<TensorMethod>> MakeRam(MethodTask task) {
  return std::make_unique<Ram>(std::move(task), is_plus);
}

}  // namespace

MethodSpec RamMethod() {
  return {.name = "ram",
          .source =
              "arXiv 2601.13572: sum what one input changed, average "
              "what several did",
          .base = MethodSpec::Base::kRequired,
          .is_on_deltas = true,
          .parameters = {SharedNumber("epsilon", 1e-5, 0, kLargest)},
          .make = MakeRam<false>};
}

MethodSpec RamPlusMethod() {
  return {.name = "ramplus_tl",
          .source =
              "arXiv 2601.13572: ram, with what is unique to an input "
              "times 1 + r min(rho, alpha), rho = shared / unique",
          .base = MethodSpec::Base::kRequired,
          .parameters = {SharedNumber("epsilon", 1e-5, 0, kLargest),
                         SharedNumber("r", 0.1, -kLargest, kLargest),
                         SharedNumber("alpha", 0.2, 0, kLargest)},
          .make = MakeRam<true>};
}

}  // namespace cairn
