#include "merge/method/row_ranks.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cairn {
namespace {

uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

uint32_t Word(double probability) {
  return static_cast<uint32_t>(
      std::clamp(std::ldexp(probability, 32), 0.0, 4294967295.0));
}

}  // namespace

RankedChooser::RankedChooser(size_t length, double density, double epsilon)
    : length_(length),
      low_(density - (length > 1 ? epsilon : 0)),
      range_(length > 1 ? 2 * epsilon : 0),
      always_(Word(low_)),
      never_(Word(low_ + range_)),
      bins_(length),
      starts_(kBins + 1),
      order_(length),
      ranks_(length),
      is_ranked_(kBins) {}

uint32_t RankedChooser::RankNeeded(uint32_t word) const {
  // rank / (length - 1) * range + low > word / 2^32
  const double probability = std::ldexp(static_cast<double>(word), -32);
  const double rank =
      (probability - low_) / range_ * static_cast<double>(length_ - 1);
  return static_cast<uint32_t>(std::max(0.0, std::floor(rank) + 1));
}

void RankedChooser::FillBins(const float* values, size_t stride) {
  uint32_t largest = 0;
  for (size_t i = 0; i < length_; ++i) {
    largest = std::max(largest, MagnitudeBits(values[i * stride]));
  }
  // 256 bins for each power of two; what is far below the largest value is
  // little and shares the first.
  constexpr int kShift = 15;
  constexpr uint32_t kReach = static_cast<uint32_t>(kBins - 1) << kShift;
  const uint32_t smallest = largest > kReach ? largest - kReach : 0;
  std::fill(starts_.begin(), starts_.end(), 0u);
  for (size_t i = 0; i < length_; ++i) {
    const uint32_t bits = MagnitudeBits(values[i * stride]);
    const uint32_t bin = bits <= smallest ? 0 : (bits - smallest) >> kShift;
    bins_[i] = static_cast<uint16_t>(bin);
    ++starts_[bin + 1];
  }
  for (size_t bin = 0; bin < kBins; ++bin) starts_[bin + 1] += starts_[bin];
  std::fill(is_ranked_.begin(), is_ranked_.end(), false);
}

uint32_t RankedChooser::RankOf(const float* values, size_t stride, size_t i) {
  const uint16_t bin = bins_[i];
  if (!is_ranked_[bin]) {
    is_ranked_[bin] = true;
    uint32_t end = starts_[bin];
    for (size_t j = 0; j < length_; ++j) {
      if (bins_[j] == bin) order_[end++] = static_cast<uint32_t>(j);
    }
    const auto begin = order_.begin() + starts_[bin];
    std::stable_sort(begin, order_.begin() + end, [&](uint32_t a, uint32_t b) {
      return MagnitudeBits(values[a * stride]) <
             MagnitudeBits(values[b * stride]);
    });
    for (uint32_t rank = starts_[bin]; rank < end; ++rank) {
      ranks_[order_[rank]] = rank;
    }
  }
  return ranks_[i];
}

void RankedChooser::Choose(const float* values, uint32_t* words, size_t stride,
                           float* kept) {
  FillBins(values, stride);
  for (size_t i = 0; i < length_; ++i) {
    const size_t at = i * stride;
    const uint32_t word = words[at];
    bool is_kept = word < always_;
    if (!is_kept && word < never_) {
      const uint32_t needed = RankNeeded(word);
      is_kept =
          starts_[bins_[i]] >= needed || (starts_[bins_[i] + 1] > needed &&
                                          RankOf(values, stride, i) >= needed);
    }
    words[at] = is_kept ? 1 : 0;
    kept[at] = is_kept ? values[at] : 0.0f;
  }
}

}  // namespace cairn
