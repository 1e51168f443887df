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

}  // namespace cairn
