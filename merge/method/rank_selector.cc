#include "merge/method/rank_selector.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "core/base/vector_clones.h"

namespace cairn {
namespace {

// A magnitude has 31 bits.
constexpr int kLowerBits = 15;
constexpr size_t kUpperBins = size_t{1} << 16;
constexpr size_t kLowerBins = size_t{1} << kLowerBits;

uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

// The bin of a rank, and the rank within it.
std::pair<size_t, int64_t> BinOf(const std::vector<uint32_t>& counts,
                                 int64_t rank) {
  size_t bin = 0;
  while (bin + 1 < counts.size() && rank >= counts[bin]) {
    rank -= counts[bin];
    ++bin;
  }
  return {bin, rank};
}

}  // namespace

namespace internal {

// Whether any of 64 magnitudes has these upper bits.
CAIRN_VECTOR_CLONES bool HasBin(uint32_t bin, const float* values) {
  uint32_t found = 0;
  for (size_t i = 0; i < 64; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]) & 0x7fffffffu;
    found |= bits >> kLowerBits == bin ? 1u : 0u;
  }
  return found != 0;
}

// Zeroes magnitudes outside [low, high]; returns how many equal a bound.
CAIRN_VECTOR_CLONES size_t KeepBetween(uint32_t low, uint32_t high,
                                       float* values, size_t count) {
  uint32_t bounds = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const bool is_inside = (magnitude >= low) & (magnitude <= high);
    bounds += (magnitude == low) | (magnitude == high) ? 1u : 0u;
    values[i] = std::bit_cast<float>(is_inside ? bits : 0u);
  }
  return bounds;
}

}  // namespace internal

int64_t RankSelector::MemoryBytes(size_t ranks) {
  return static_cast<int64_t>((kUpperBins + ranks * kLowerBins) *
                              sizeof(uint32_t));
}

RankSelector::RankSelector(std::vector<int64_t> ranks)
    : ranks_(std::move(ranks)), found_(ranks_.size()) {}

uint32_t RankSelector::BitsOf(float value) { return MagnitudeBits(value); }

float RankSelector::Value(size_t index) const {
  return std::bit_cast<float>(Bits(index));
}

void RankSelector::CountUpper(const float* values, size_t count,
                              std::vector<uint32_t>& upper) {
  if (upper.empty()) upper.assign(kUpperBins, 0);
  uint32_t* bins = upper.data();
  for (size_t i = 0; i < count; ++i) {
    ++bins[MagnitudeBits(values[i]) >> kLowerBits];
  }
}

void RankSelector::Count(int pass, const float* values, size_t count) {
  if (pass == 0) return CountUpper(values, count, upper_);
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if (table_[r] != r) continue;  // counted for an earlier rank
    const uint32_t bin = found_[r].bits >> kLowerBits;
    uint32_t* bins = lower_[r].data();
    for (size_t begin = 0; begin < count; begin += 64) {
      const size_t end = std::min(count, begin + 64);
      if (end == begin + 64 && !internal::HasBin(bin, values + begin)) continue;
      for (size_t i = begin; i < end; ++i) {
        const uint32_t bits = MagnitudeBits(values[i]);
        if (bits >> kLowerBits == bin) ++bins[bits & (kLowerBins - 1)];
      }
    }
  }
}

void RankSelector::EndPass(int pass) {
  if (pass == 0) {
    upper_.resize(kUpperBins);
    lower_.resize(ranks_.size());
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const auto [bin, rank] = BinOf(upper_, ranks_[r]);
      found_[r] = {static_cast<uint32_t>(bin << kLowerBits), rank};
      size_t first = 0;
      while (found_[first].bits != found_[r].bits) ++first;
      table_.push_back(first);
      if (first == r) lower_[r].assign(kLowerBins, 0);
    }
    upper_ = {};
    return;
  }
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const auto [bin, rank] = BinOf(lower_[table_[r]], found_[r].before);
    found_[r] = {found_[r].bits | static_cast<uint32_t>(bin), rank};
  }
  lower_ = {};
}

RankWindow::RankWindow(int64_t begin, int64_t end, int64_t elements)
    : begin_(begin),
      end_(end),
      is_open_(end == elements),
      selector_(begin >= end ? std::vector<int64_t>{}
                : is_open_   ? std::vector<int64_t>{begin}
                             : std::vector<int64_t>{begin, end - 1}) {}

void RankWindow::EndPass(int pass) {
  if (begin_ >= end_) return;
  selector_.EndPass(pass);
  if (pass + 1 < kPasses) return;
  low_ = selector_.Bits(0);
  low_skipped_ = selector_.EqualBefore(0);
  if (is_open_) return;
  high_ = selector_.Bits(1);
  high_kept_ = selector_.EqualBefore(1) + 1;
}

void RankWindow::Apply(float* values, size_t count) {
  if (begin_ >= end_) {
    std::fill_n(values, count, 0.0f);
    return;
  }
  constexpr size_t kStrip = 128;
  float before[kStrip];
  for (size_t first = 0; first < count; first += kStrip) {
    const size_t strip = std::min(kStrip, count - first);
    float* out = values + first;
    std::copy_n(out, strip, before);
    const size_t bounds = internal::KeepBetween(low_, high_, out, strip);
    if (bounds == 0 || (is_open_ && low_skipped_ == 0)) continue;
    for (size_t i = 0; i < strip; ++i) {
      const uint32_t bits = MagnitudeBits(before[i]);
      const bool too_early = bits == low_ && low_seen_++ < low_skipped_;
      const bool too_late = bits == high_ && high_seen_++ >= high_kept_;
      if (too_early || too_late) out[i] = 0;
    }
  }
}

}  // namespace cairn
