#include "merge/method/sampled_rank.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/vector_clones.h"
#include "merge/method/compress_lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace cairn {
namespace {

// Elements that are looked at at most; more would make the pass that follows
// keep less, and take longer than that saves.
constexpr size_t kLookedMax = size_t{1} << 17;
// What may be kept of a tensor; a look that would need more is of no use.
constexpr int64_t kNearShare = 8;
constexpr int64_t kNearMax = 1 << 22;
// Elements that are counted at a time.
constexpr int64_t kStrip = 1024;
// Standard deviations that the rank may lie off.
constexpr double kDeviations = 5;

uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

// How many magnitudes are below `low`, equal it, equal `high`; those between
// go to `near`, which has room for all and 16 more.
struct Counts {
  size_t below = 0, equal_low = 0, equal_high = 0, near = 0;
};
using CountFunction = Counts (*)(const float* values, size_t count,
                                 uint32_t low, uint32_t high, uint32_t* near);

Counts CountPortable(const float* values, size_t count, uint32_t low,
                     uint32_t high, uint32_t* near) {
  Counts counts;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBits(values[i]);
    counts.below += bits < low ? 1u : 0u;
    counts.equal_low += bits == low ? 1u : 0u;
    counts.equal_high += bits == high ? 1u : 0u;
    near[counts.near] = bits;
    counts.near += ((bits > low) & (bits < high)) ? 1u : 0u;
  }
  return counts;
}

#if defined(__x86_64__)

__attribute__((target("avx512f,avx512dq,popcnt"))) Counts CountAvx512(
    const float* values, size_t count, uint32_t low, uint32_t high,
    uint32_t* near) {
  Counts counts;
  const __m512i lows = _mm512_set1_epi32(static_cast<int>(low));
  const __m512i highs = _mm512_set1_epi32(static_cast<int>(high));
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const auto ones = [](__mmask16 mask) {
    return static_cast<size_t>(__builtin_popcount(mask));
  };
  size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512i bits =
        _mm512_and_si512(_mm512_loadu_si512(values + i), magnitude);
    const __mmask16 above_low = _mm512_cmpgt_epu32_mask(bits, lows);
    const __mmask16 equal_low = _mm512_cmpeq_epi32_mask(bits, lows);
    const __mmask16 equal_high = _mm512_cmpeq_epi32_mask(bits, highs);
    const __mmask16 is_near =
        _mm512_mask_cmplt_epu32_mask(above_low, bits, highs);
    counts.below += 16 - ones(above_low) - ones(equal_low);
    counts.equal_low += ones(equal_low);
    counts.equal_high += ones(equal_high);
    _mm512_storeu_si512(near + counts.near,
                        _mm512_maskz_compress_epi32(is_near, bits));
    counts.near += ones(is_near);
  }
  const Counts rest =
      CountPortable(values + i, count - i, low, high, near + counts.near);
  counts.below += rest.below;
  counts.equal_low += rest.equal_low;
  counts.equal_high += rest.equal_high;
  counts.near += rest.near;
  return counts;
}

// Compares as signed numbers, which the bits of magnitudes allow.
__attribute__((target("avx2"))) Counts CountAvx2(const float* values,
                                                 size_t count, uint32_t low,
                                                 uint32_t high,
                                                 uint32_t* near) {
  const __m256i lows = _mm256_set1_epi32(static_cast<int>(low));
  const __m256i highs = _mm256_set1_epi32(static_cast<int>(high));
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  // Every lane that compares takes one off.
  __m256i below = _mm256_setzero_si256(), equal_low = below, equal_high = below;
  size_t n = 0, i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = _mm256_and_si256(
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i)),
        magnitude);
    const __m256i is_below = _mm256_cmpgt_epi32(lows, bits);
    const __m256i is_low = _mm256_cmpeq_epi32(lows, bits);
    const __m256i is_high = _mm256_cmpeq_epi32(highs, bits);
    const __m256i is_outside = _mm256_or_si256(is_below, is_low);
    const __m256i is_near =
        _mm256_andnot_si256(is_outside, _mm256_cmpgt_epi32(highs, bits));
    below = _mm256_sub_epi32(below, is_below);
    equal_low = _mm256_sub_epi32(equal_low, is_low);
    equal_high = _mm256_sub_epi32(equal_high, is_high);
    const auto mask =
        static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_near)));
    if (mask == 0) continue;
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(near + n),
                        CompressLanes(bits, mask));
    n += static_cast<size_t>(__builtin_popcount(mask));
  }
  const auto total = [](__m256i lanes) __attribute__((target("avx2"))) {
    alignas(32) uint32_t each[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(each), lanes);
    size_t sum = 0;
    for (uint32_t lane : each) sum += lane;
    return sum;
  };
  Counts counts = CountPortable(values + i, count - i, low, high, near + n);
  counts.below += total(below);
  counts.equal_low += total(equal_low);
  counts.equal_high += total(equal_high);
  counts.near += n;
  return counts;
}

CountFunction BestCount() {
  static const CountFunction best =
      WidestOf<CountFunction>(CountPortable, CountAvx2, CountAvx512);
  return best;
}

#else

CountFunction BestCount() { return CountPortable; }

#endif

int64_t NearMax(int64_t elements) {
  return std::min(elements, std::clamp(elements / kNearShare,
                                       SampledRank::kSmall, kNearMax));
}

}  // namespace

SampledRank::SampledRank(int64_t rank, int64_t elements)
    : rank_(rank), elements_(elements), near_max_(NearMax(elements)) {}

int64_t SampledRank::MemoryBytes(int64_t elements) {
  // The vector of what is near grows by doubling, and holds both for a moment.
  const int64_t near = 3 * NearMax(elements) / 2 + kStrip + 16;
  return near * static_cast<int64_t>(sizeof(uint32_t));
}

void SampledRank::Look(const float* values, size_t count) {
  count = std::min(count, kLookedMax - looked_.size());
  for (size_t i = 0; i < count; ++i) {
    looked_.push_back(MagnitudeBits(values[i]));
  }
  if (count > 0) ends_.push_back(looked_.size());
}

double SampledRank::SpreadAt(uint32_t bits) const {
  double sum = 0, squares = 0;
  size_t begin = 0;
  for (size_t end : ends_) {
    const auto below =
        std::count_if(looked_.begin() + static_cast<std::ptrdiff_t>(begin),
                      looked_.begin() + static_cast<std::ptrdiff_t>(end),
                      [&](uint32_t other) { return other < bits; });
    const double share =
        static_cast<double>(below) / static_cast<double>(end - begin);
    sum += share;
    squares += share * share;
    begin = end;
  }
  const auto places = static_cast<double>(ends_.size());
  const double mean = sum / places;
  const double variance = std::max(0.0, squares / places - mean * mean);
  return std::sqrt(variance / places) * static_cast<double>(looked_.size());
}

bool SampledRank::EndLook() {
  const auto looked = static_cast<int64_t>(looked_.size());
  if (elements_ <= kSmall || looked == 0) return elements_ <= kSmall;
  const double scale =
      static_cast<double>(looked) / static_cast<double>(elements_);
  const int64_t middle = std::min(
      looked - 1, static_cast<int64_t>(static_cast<double>(rank_) * scale));
  std::vector<uint32_t> values = looked_;
  const auto ranked = [&](int64_t rank) {
    std::nth_element(values.begin(), values.begin() + rank, values.end());
    return values[static_cast<size_t>(rank)];
  };
  constexpr double kLeast = 16;
  const auto margin =
      static_cast<int64_t>(kDeviations * SpreadAt(ranked(middle)) + kLeast);
  const int64_t first = middle - margin, last = middle + margin;
  if (first > 0) low_ = ranked(first);
  if (last < looked) high_ = ranked(last);
  looked_ = {};
  ends_ = {};
  const int64_t kept = std::min(last, looked) - std::max(first, int64_t{0});
  return low_ >= high_ || static_cast<double>(kept) / scale <
                              0.9 * static_cast<double>(near_max_);
}

void SampledRank::Count(const float* values, size_t count) {
  if (is_overfull_) return;
  for (size_t begin = 0; begin < count; begin += kStrip) {
    const size_t strip = std::min(size_t{kStrip}, count - begin);
    // Grows by what is needed, so that little memory is touched.
    if (near_.size() < near_count_ + strip + 16) {
      near_.resize(near_count_ + near_count_ / 2 + strip + 16);
    }
    const Counts counts = BestCount()(values + begin, strip, low_, high_,
                                      near_.data() + near_count_);
    below_ += static_cast<int64_t>(counts.below);
    equal_low_ += static_cast<int64_t>(counts.equal_low);
    equal_high_ += static_cast<int64_t>(counts.equal_high);
    near_count_ += counts.near;
    is_overfull_ = static_cast<int64_t>(near_count_) > near_max_;
    if (is_overfull_) return;
  }
}

bool SampledRank::EndCount() {
  if (low_ == high_) equal_high_ = 0;  // already among those of low_
  const int64_t after_low = below_ + equal_low_;
  const int64_t before_high = after_low + static_cast<int64_t>(near_count_);
  const bool is_found =
      !is_overfull_ && rank_ >= below_ && rank_ < before_high + equal_high_;
  if (is_found && rank_ < after_low) {
    bits_ = low_;
    equal_before_ = rank_ - below_;
  } else if (is_found && rank_ < before_high) {
    const auto begin = near_.begin();
    const auto nth = begin + (rank_ - after_low);
    std::nth_element(begin, nth,
                     begin + static_cast<std::ptrdiff_t>(near_count_));
    bits_ = *nth;
    equal_before_ = std::count(begin, nth, bits_);
  } else if (is_found) {
    bits_ = high_;
    equal_before_ = rank_ - before_high;
  }
  near_ = {};
  near_count_ = 0;
  return is_found;
}

}  // namespace cairn
