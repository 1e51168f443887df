#include "merge/method/rank_window.h"

#include <algorithm>
#include <bit>

#include "core/base/vector_clones.h"
#include "merge/method/tile_math.h"

namespace cairn {
namespace {

// Elements that are applied to at a time.
constexpr size_t kStrip = 512;

}  // namespace

namespace internal {

// out = weight * those of values - base with magnitudes in [first, last], else
// 0; counts those that equal `low` and `high`. Bits of magnitudes are not
// negative. Without a base and a weight where kIsPlain.
template <bool kIsPlain>
CAIRN_INLINE BoundCounts KeepBetweenBody(int32_t first, int32_t last,
                                         int32_t low, int32_t high,
                                         const float* values, const float* base,
                                         float weight, float* out,
                                         size_t count) {
  uint32_t equal_low = 0, equal_high = 0;
  CAIRN_IVDEP
  for (size_t i = 0; i < count; ++i) {
    const float value = kIsPlain ? values[i] : values[i] - base[i];
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const auto magnitude = static_cast<int32_t>(bits & 0x7fffffffu);
    const bool is_inside = (magnitude >= first) & (magnitude <= last);
    equal_low += magnitude == low ? 1u : 0u;
    equal_high += magnitude == high ? 1u : 0u;
    const float kept = std::bit_cast<float>(is_inside ? bits : 0u);
    out[i] = kIsPlain ? kept : weight * kept;
  }
  return {equal_low, equal_high};
}

CAIRN_VECTOR_CLONES BoundCounts KeepBetween(int32_t first, int32_t last,
                                            int32_t low, int32_t high,
                                            float* values, size_t count) {
  return KeepBetweenBody<true>(first, last, low, high, values, nullptr, 1,
                               values, count);
}

CAIRN_VECTOR_CLONES BoundCounts KeepDifferenceBetween(
    int32_t first, int32_t last, int32_t low, int32_t high, const float* values,
    const float* base, float weight, float* out, size_t count) {
  return KeepBetweenBody<false>(first, last, low, high, values, base, weight,
                                out, count);
}

}  // namespace internal

RankWindow::RankWindow(int64_t begin, int64_t end, int64_t elements)
    : begin_(begin),
      end_(end),
      elements_(elements),
      is_open_(end == elements),
      exact_(begin >= end ? std::vector<int64_t>{}
             : is_open_   ? std::vector<int64_t>{begin}
                          : std::vector<int64_t>{begin, end - 1}) {
  if (is_empty()) return;
  sampled_.emplace_back(begin, elements);
  if (!is_open_) sampled_.emplace_back(end - 1, elements);
}

int64_t RankWindow::memory_bytes() const {
  if (is_empty()) return 0;
  return std::max(static_cast<int64_t>(sampled_.size()) *
                      SampledRank::MemoryBytes(elements_),
                  RankSelector::MemoryBytes(sampled_.size()));
}

PassScope RankWindow::scope(int pass) const {
  if (is_empty()) return PassScope::kNone;
  if (pass == 0) {
    return elements_ <= SampledRank::kSmall ? PassScope::kNone
                                            : PassScope::kLook;
  }
  return (pass == 1) == needs_exact_ ? PassScope::kNone : PassScope::kAll;
}

void RankWindow::Count(int pass, const float* values, size_t count) {
  if (scope(pass) == PassScope::kNone) return;
  if (pass >= 2) return exact_.Count(pass - 2, values, count);
  for (SampledRank& rank : sampled_) {
    if (pass == 0) {
      rank.Look(values, count);
    } else {
      rank.Count(values, count);
    }
  }
}

void RankWindow::SetBound(size_t index, uint32_t bits, int64_t equal_before) {
  if (index == 0) {
    low_ = bits;
    low_skipped_ = equal_before;
  } else {
    high_ = bits;
    high_kept_ = equal_before + 1;
  }
}

void RankWindow::EndPass(int pass) {
  if (is_empty()) return;
  if (pass < 2) {
    for (size_t i = 0; i < sampled_.size() && !needs_exact_; ++i) {
      needs_exact_ =
          pass == 0 ? !sampled_[i].EndLook() : !sampled_[i].EndCount();
      if (pass == 1 && !needs_exact_) {
        SetBound(i, sampled_[i].bits(), sampled_[i].equal_before());
      }
    }
    if (pass == 1) sampled_.clear();
    return;
  }
  if (!needs_exact_) return;
  exact_.EndPass(pass - 2);
  if (pass + 1 < kPasses) return;
  for (size_t i = 0; i < (is_open_ ? 1 : 2); ++i) {
    SetBound(i, exact_.Bits(i), exact_.EqualBefore(i));
  }
}

RankWindow::Bounds RankWindow::BoundsOf(size_t count) const {
  // Equals of a bound are mostly all of them in or all of them out: coarse
  // values, as differences of 16-bit numbers are, have many.
  const auto strip = static_cast<int64_t>(count);
  const bool keeps_low = low_seen_ >= low_skipped_;
  const bool drops_low = !keeps_low && low_seen_ + strip <= low_skipped_;
  const bool drops_high = !is_open_ && high_seen_ >= high_kept_;
  const bool keeps_high = is_open_ || high_seen_ + strip <= high_kept_;
  const auto low = static_cast<int32_t>(low_);
  const auto high = static_cast<int32_t>(high_);
  return {.first = drops_low ? low + 1 : low,
          .last = drops_high ? high - 1 : high,
          .is_mixed = !(keeps_low || drops_low) || !(keeps_high || drops_high)};
}

void RankWindow::Apply(float* values, size_t count) {
  if (is_empty()) {
    std::fill_n(values, count, 0.0f);
    return;
  }
  for (size_t first = 0; first < count; first += kStrip) {
    const size_t strip = std::min(kStrip, count - first);
    const Bounds bounds = BoundsOf(strip);
    if (bounds.is_mixed) {
      ApplyMixed(values + first, strip);
      continue;
    }
    Note(internal::KeepBetween(
        bounds.first, bounds.last, static_cast<int32_t>(low_),
        static_cast<int32_t>(high_), values + first, strip));
  }
}

void RankWindow::ApplyToDifference(const float* values, const float* base,
                                   float weight, float* out, size_t count) {
  for (size_t first = 0; first < count; first += kStrip) {
    const size_t strip = std::min(kStrip, count - first);
    const Bounds bounds = BoundsOf(strip);
    if (is_empty() || bounds.is_mixed) {
      Subtract(values + first, base + first, out + first, strip);
      Apply(out + first, strip);
      Scale(weight, out + first, out + first, strip);
      continue;
    }
    Note(internal::KeepDifferenceBetween(
        bounds.first, bounds.last, static_cast<int32_t>(low_),
        static_cast<int32_t>(high_), values + first, base + first, weight,
        out + first, strip));
  }
}

void RankWindow::Note(internal::BoundCounts equal) {
  low_seen_ += static_cast<int64_t>(equal.low);
  high_seen_ += static_cast<int64_t>(equal.high);
}

void RankWindow::ApplyMixed(float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = RankSelector::BitsOf(values[i]);
    bool is_kept = bits >= low_ && bits <= high_;
    if (bits == low_ && low_seen_++ < low_skipped_) is_kept = false;
    if (!is_open_ && bits == high_ && high_seen_++ >= high_kept_) {
      is_kept = false;
    }
    if (!is_kept) values[i] = 0;
  }
}

}  // namespace cairn
