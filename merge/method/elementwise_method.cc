#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "core/base/vector_clones.h"
#include "merge/method/element_math.h"
#include "merge/method/method_makers.h"
#include "merge/method/tile_math.h"

namespace cairn {

// What a method makes of a range of every input.
struct ElementwiseRange {
  const float* base;
  const float* const* inputs;  // `n` models
  size_t n;
  size_t count;
  ElementRule rule;
  float* room;  // for n values of kStrip elements
};

namespace internal {

// Elements that are worked on at a time: what is kept of each stays in the
// first cache.
constexpr size_t kStrip = 256;

// out = base + lambda x out
inline void AddToBase(const ElementwiseRange& range, size_t begin, size_t strip,
                      float* out) {
  const float* base = range.base + begin;
  for (size_t i = 0; i < strip; ++i)
    out[i] = base[i] + range.rule.factor * out[i];
}

// The sum of the task vectors.
inline void SumTaus(const ElementwiseRange& range, size_t begin, size_t strip,
                    float* sum) {
  const float* base = range.base + begin;
  std::fill_n(sum, strip, 0.0f);
  for (size_t k = 0; k < range.n; ++k) {
    const float* values = range.inputs[k] + begin;
    for (size_t i = 0; i < strip; ++i) sum[i] += values[i] - base[i];
  }
}

// Of kN models, element by element, so that nothing goes through memory:
// out = base + lambda x what `choose` makes of an element's task vectors.
template <size_t kN, typename Choose>
CAIRN_INLINE void CombineFew(const ElementwiseRange& range, float* out,
                             const Choose& choose) {
  const float* inputs[kN];
  for (size_t k = 0; k < kN; ++k) inputs[k] = range.inputs[k];
  const float* base = range.base;
  const float factor = range.rule.factor;
  const size_t count = range.count;
  CAIRN_IVDEP
  for (size_t i = 0; i < count; ++i) {
    float tau[kN];
    for (size_t k = 0; k < kN; ++k) tau[k] = inputs[k][i] - base[i];
    out[i] = base[i] + factor * choose(tau);
  }
}

// Whether there were few enough.
template <typename Choose>
CAIRN_INLINE bool CombineIfFew(const ElementwiseRange& range, float* out,
                               const Choose& choose) {
  switch (range.n) {
    case 1:
      CombineFew<1>(range, out, choose);
      return true;
    case 2:
      CombineFew<2>(range, out, choose);
      return true;
    case 3:
      CombineFew<3>(range, out, choose);
      return true;
    case 4:
      CombineFew<4>(range, out, choose);
      return true;
    default:
      return false;
  }
}

template <size_t kN>
CAIRN_INLINE float SumOf(const float (&tau)[kN]) {
  float sum = 0;
  for (size_t k = 0; k < kN; ++k) sum += tau[k];
  return sum;
}

struct ChooseMagMax {
  template <size_t kN>
  CAIRN_INLINE float operator()(const float (&tau)[kN]) const {
    float most = 0;
    for (size_t k = 0; k < kN; ++k) most = LargerMagnitude(most, tau[k]);
    return most;
  }
};

CAIRN_VECTOR_CLONES void CombineMagMax(const ElementwiseRange& range,
                                       float* out) {
  if (CombineIfFew(range, out, ChooseMagMax())) return;
  for (size_t begin = 0; begin < range.count; begin += kStrip) {
    const size_t strip = std::min(kStrip, range.count - begin);
    const float* base = range.base + begin;
    float most[kStrip];
    std::fill_n(most, strip, 0.0f);
    for (size_t k = 0; k < range.n; ++k) {
      const float* values = range.inputs[k] + begin;
      for (size_t i = 0; i < strip; ++i) {
        most[i] = LargerMagnitude(most[i], values[i] - base[i]);
      }
    }
    AddToBase(range, begin, strip, most);
    std::copy_n(most, strip, out + begin);
  }
}

struct ChooseEmr {
  template <size_t kN>
  CAIRN_INLINE float operator()(const float (&tau)[kN]) const {
    const float sign = ElectedSign(SumOf(tau));
    float most = 0;
    for (size_t k = 0; k < kN; ++k) most = MaxOf(most, tau[k] * sign);
    return most * sign;
  }
};

CAIRN_VECTOR_CLONES void CombineEmr(const ElementwiseRange& range, float* out) {
  if (CombineIfFew(range, out, ChooseEmr())) return;
  for (size_t begin = 0; begin < range.count; begin += kStrip) {
    const size_t strip = std::min(kStrip, range.count - begin);
    const float* base = range.base + begin;
    float sign[kStrip], most[kStrip];
    SumTaus(range, begin, strip, sign);
    for (size_t i = 0; i < strip; ++i) sign[i] = ElectedSign(sign[i]);
    std::fill_n(most, strip, 0.0f);
    for (size_t k = 0; k < range.n; ++k) {
      const float* values = range.inputs[k] + begin;
      for (size_t i = 0; i < strip; ++i) {
        most[i] = MaxOf(most[i], (values[i] - base[i]) * sign[i]);
      }
    }
    for (size_t i = 0; i < strip; ++i) most[i] *= sign[i];
    AddToBase(range, begin, strip, most);
    std::copy_n(most, strip, out + begin);
  }
}

struct ChooseConsensus {
  const float level;
  const int32_t agree;
  template <size_t kN>
  CAIRN_INLINE float operator()(const float (&tau)[kN]) const {
    const float sum = SumOf(tau);
    int32_t users = 0;
    for (size_t k = 0; k < kN; ++k) users += IsUser(tau[k], sum, level) ? 1 : 0;
    return users >= agree ? sum : 0.0f;
  }
};

CAIRN_VECTOR_CLONES void CombineConsensus(const ElementwiseRange& range,
                                          float* out) {
  if (CombineIfFew(range, out,
                   ChooseConsensus{range.rule.level, range.rule.count})) {
    return;
  }
  for (size_t begin = 0; begin < range.count; begin += kStrip) {
    const size_t strip = std::min(kStrip, range.count - begin);
    const float* base = range.base + begin;
    float sum[kStrip];
    int32_t users[kStrip];
    SumTaus(range, begin, strip, sum);
    std::fill_n(users, strip, 0);
    for (size_t k = 0; k < range.n; ++k) {
      const float* values = range.inputs[k] + begin;
      for (size_t i = 0; i < strip; ++i) {
        users[i] +=
            IsUser(values[i] - base[i], sum[i], range.rule.level) ? 1 : 0;
      }
    }
    for (size_t i = 0; i < strip; ++i) {
      sum[i] = users[i] >= range.rule.count ? sum[i] : 0.0f;
    }
    AddToBase(range, begin, strip, sum);
    std::copy_n(sum, strip, out + begin);
  }
}

// Puts the smaller into a; without a branch, as KeptIf().
CAIRN_INLINE void Exchange(float& a, float& b) {
  const auto x = std::bit_cast<uint32_t>(a), y = std::bit_cast<uint32_t>(b);
  const uint32_t changes = (x ^ y) & (ComesBefore(b, a) ? ~0u : 0u);
  a = std::bit_cast<float>(x ^ changes);
  b = std::bit_cast<float>(y ^ changes);
}

// Calls exchange(i, j) for the pairs that sort n values: merge exchange (Knuth,
// The Art of Computer Programming 3, 5.2.2, algorithm M), whose steps do not
// depend on the values.
template <typename ExchangePair>
constexpr void ForEachExchange(size_t n, const ExchangePair& exchange) {
  if (n < 2) return;
  const size_t top = std::bit_ceil(n) / 2;
  for (size_t p = top; p > 0; p /= 2) {
    size_t r = 0, d = p;
    for (size_t q = top;; q /= 2) {
      for (size_t i = 0; i + d < n; ++i) {
        if ((i & p) == r) exchange(i, i + d);
      }
      if (q == p) break;
      d = q - p;
      r = p;
    }
  }
}

// The pairs of kN values.
template <size_t kN>
struct SortingNetwork {
  std::array<std::array<size_t, 2>, kN* kN> pairs = {};
  size_t count = 0;
  constexpr SortingNetwork() {
    ForEachExchange(kN, [this](size_t i, size_t j) {
      pairs[count++] = {i, j};
    });
  }
};

// Sorts n rows element by element.
inline void SortRows(float* rows, size_t n, size_t count) {
  ForEachExchange(n, [&](size_t a, size_t b) {
    float* first = rows + a * kStrip;
    float* second = rows + b * kStrip;
    for (size_t i = 0; i < count; ++i) Exchange(first[i], second[i]);
  });
}

struct ChooseTrimmedMean {
  const size_t trimmed;
  template <size_t kN>
  CAIRN_INLINE float operator()(float (&tau)[kN]) const {
    Sort(tau, std::make_index_sequence<SortingNetwork<kN>().count>());
    float sum = 0;
    for (size_t k = 0; k < kN; ++k) {
      sum += KeptIf((k >= trimmed) & (k + trimmed < kN), tau[k]);
    }
    return sum / static_cast<float>(kN - 2 * trimmed);
  }

 private:
  // Each pair on its own, so that compilers keep values in registers.
  template <size_t kN, size_t... kExchanges>
  CAIRN_INLINE static void Sort(float (&tau)[kN],
                                std::index_sequence<kExchanges...>) {
    constexpr SortingNetwork<kN> kNetwork;
    (Exchange(tau[kNetwork.pairs[kExchanges][0]],
              tau[kNetwork.pairs[kExchanges][1]]),
     ...);
  }
};

// The mean of what is left when `rule.count` of each end are gone.
CAIRN_VECTOR_CLONES void CombineTrimmedMean(const ElementwiseRange& range,
                                            float* out) {
  const auto trimmed = static_cast<size_t>(range.rule.count);
  if (CombineIfFew(range, out, ChooseTrimmedMean{trimmed})) return;
  const auto left = static_cast<float>(range.n - 2 * trimmed);
  for (size_t begin = 0; begin < range.count; begin += kStrip) {
    const size_t strip = std::min(kStrip, range.count - begin);
    const float* base = range.base + begin;
    for (size_t k = 0; k < range.n; ++k) {
      const float* values = range.inputs[k] + begin;
      float* tau = range.room + k * kStrip;
      for (size_t i = 0; i < strip; ++i) tau[i] = values[i] - base[i];
    }
    SortRows(range.room, range.n, strip);
    float sum[kStrip];
    std::fill_n(sum, strip, 0.0f);
    for (size_t k = trimmed; k + trimmed < range.n; ++k) {
      const float* tau = range.room + k * kStrip;
      for (size_t i = 0; i < strip; ++i) sum[i] += tau[i];
    }
    for (size_t i = 0; i < strip; ++i) sum[i] /= left;
    AddToBase(range, begin, strip, sum);
    std::copy_n(sum, strip, out + begin);
  }
}

}  // namespace internal

namespace {

// base + lambda x a function of the task vectors of one element.
class ElementwiseMethod : public TensorMethod {
 public:
  ElementwiseMethod(const MethodTask& task, ElementRule rule)
      : base_(*task.base), others_(task.Others()), rule_(rule) {
    rule_.factor = static_cast<float>(task.Shared("lambda"));
    if (rule_.kind == ElementKind::kTrimmedMean) {
      room_.resize(others_.size() * internal::kStrip);
    }
  }

  int64_t memory_bytes() const override {
    return static_cast<int64_t>(room_.size() * sizeof(float));
  }

  void Combine(const InputTile& tile, float* out) override {
    inputs_.clear();
    for (size_t i : others_) inputs_.push_back(tile.inputs[i]);
    const ElementwiseRange range = {.base = tile.inputs[base_],
                                    .inputs = inputs_.data(),
                                    .n = inputs_.size(),
                                    .count = tile.count,
                                    .rule = rule_,
                                    .room = room_.data()};
    switch (rule_.kind) {
      case ElementKind::kMagMax:
        return internal::CombineMagMax(range, out);
      case ElementKind::kEmr:
        return internal::CombineEmr(range, out);
      case ElementKind::kConsensus:
        return internal::CombineConsensus(range, out);
      default:
        return internal::CombineTrimmedMean(range, out);
    }
  }

  std::optional<ElementFormula> Formula() const override {
    ElementFormula formula = ElementFormula::Of(rule_.kind, base_, others_);
    formula.rule.factor = rule_.factor;
    formula.rule.level = rule_.level;
    formula.rule.count = rule_.count;
    return formula;
  }

 private:
  const size_t base_;
  const std::vector<size_t> others_;
  ElementRule rule_;  // kind, level, count and factor
  std::vector<const float*> inputs_;
  std::vector<float> room_;
};

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMagMax(MethodTask task) {
  return std::make_unique<ElementwiseMethod>(
      task, ElementRule{.kind = ElementKind::kMagMax});
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeEmr(MethodTask task) {
  return std::make_unique<ElementwiseMethod>(
      task, ElementRule{.kind = ElementKind::kEmr});
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeConsensus(MethodTask task) {
  return std::make_unique<ElementwiseMethod>(
      task,
      ElementRule{.kind = ElementKind::kConsensus,
                  .count = static_cast<int32_t>(task.Shared("agree")),
                  .level = static_cast<float>(task.Shared("mask_lambda"))});
}

std::unique_ptr<TensorMethod> WithTrimmed(const MethodTask& task,
                                          size_t trimmed) {
  return std::make_unique<ElementwiseMethod>(
      task, ElementRule{.kind = ElementKind::kTrimmedMean,
                        .count = static_cast<int32_t>(trimmed)});
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeTrimmedMean(MethodTask task) {
  const auto count = static_cast<double>(task.Others().size());
  return WithTrimmed(task, static_cast<size_t>(task.Shared("trim") * count));
}

absl::StatusOr<std::unique_ptr<TensorMethod>> MakeMedian(MethodTask task) {
  return WithTrimmed(task, (task.Others().size() - 1) / 2);
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
