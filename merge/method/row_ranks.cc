#include "merge/method/row_ranks.h"

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

uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7fffffffu;
}

uint32_t Word(double probability) {
  return static_cast<uint32_t>(
      std::clamp(std::ldexp(probability, 32), 0.0, 4294967295.0));
}

// Makes the words of what is chosen whatever its rank 1, all others 0, and
// lists those that need a rank, with their words; the lists have room for
// kListRoom more. Returns how many.
using DecideFunction = size_t (*)(uint32_t always, uint32_t never,
                                  uint32_t* words, size_t count,
                                  uint32_t* undecided,
                                  uint32_t* undecided_words);
constexpr size_t kListRoom = 16;

size_t DecideFrom(size_t begin, uint32_t always, uint32_t never,
                  uint32_t* words, size_t count, uint32_t* undecided,
                  uint32_t* undecided_words) {
  size_t n = 0;
  for (size_t i = begin; i < count; ++i) {
    const uint32_t word = words[i];
    undecided[n] = static_cast<uint32_t>(i);
    undecided_words[n] = word;
    n += ((word >= always) & (word < never)) ? 1u : 0u;
    words[i] = word < always ? 1u : 0u;
  }
  return n;
}

size_t DecidePortable(uint32_t always, uint32_t never, uint32_t* words,
                      size_t count, uint32_t* undecided,
                      uint32_t* undecided_words) {
  return DecideFrom(0, always, never, words, count, undecided, undecided_words);
}

#if defined(__x86_64__)

__attribute__((target("avx512f,popcnt"))) size_t DecideAvx512(
    uint32_t always, uint32_t never, uint32_t* words, size_t count,
    uint32_t* undecided, uint32_t* undecided_words) {
  const __m512i below = _mm512_set1_epi32(static_cast<int>(always));
  const __m512i end = _mm512_set1_epi32(static_cast<int>(never));
  const __m512i ones = _mm512_set1_epi32(1), step = _mm512_set1_epi32(16);
  __m512i index =
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  size_t n = 0, i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m512i word = _mm512_loadu_si512(words + i);
    const __mmask16 is_chosen = _mm512_cmplt_epu32_mask(word, below);
    const __mmask16 is_open = _mm512_mask_cmplt_epu32_mask(
        static_cast<__mmask16>(~is_chosen), word, end);
    _mm512_storeu_si512(undecided + n,
                        _mm512_maskz_compress_epi32(is_open, index));
    _mm512_storeu_si512(undecided_words + n,
                        _mm512_maskz_compress_epi32(is_open, word));
    _mm512_storeu_si512(words + i, _mm512_maskz_mov_epi32(is_chosen, ones));
    n += static_cast<size_t>(__builtin_popcount(is_open));
    index = _mm512_add_epi32(index, step);
  }
  return n + DecideFrom(i, always, never, words, count, undecided + n,
                        undecided_words + n);
}

__attribute__((target("avx2"))) size_t DecideAvx2(uint32_t always,
                                                  uint32_t never,
                                                  uint32_t* words, size_t count,
                                                  uint32_t* undecided,
                                                  uint32_t* undecided_words) {
  // Words are compared as signed numbers, half of the range lower.
  constexpr uint32_t kMiddle = 0x80000000u;
  const __m256i middle = _mm256_set1_epi32(static_cast<int>(kMiddle));
  const __m256i below = _mm256_set1_epi32(static_cast<int>(always ^ kMiddle));
  const __m256i end = _mm256_set1_epi32(static_cast<int>(never ^ kMiddle));
  const __m256i step = _mm256_set1_epi32(8);
  __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  size_t n = 0, i = 0;
  for (; i + 8 <= count; i += 8) {
    auto* at = reinterpret_cast<__m256i*>(words + i);
    const __m256i word = _mm256_loadu_si256(at);
    const __m256i moved = _mm256_xor_si256(word, middle);
    const __m256i is_chosen = _mm256_cmpgt_epi32(below, moved);
    const __m256i is_open =
        _mm256_andnot_si256(is_chosen, _mm256_cmpgt_epi32(end, moved));
    const auto mask =
        static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_open)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(undecided + n),
                        CompressLanes(index, mask));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(undecided_words + n),
                        CompressLanes(word, mask));
    _mm256_storeu_si256(at, _mm256_srli_epi32(is_chosen, 31));
    n += static_cast<size_t>(__builtin_popcount(mask));
    index = _mm256_add_epi32(index, step);
  }
  return n + DecideFrom(i, always, never, words, count, undecided + n,
                        undecided_words + n);
}

DecideFunction BestDecide() {
  static const DecideFunction best =
      WidestOf<DecideFunction>(DecidePortable, DecideAvx2, DecideAvx512);
  return best;
}

#else

DecideFunction BestDecide() { return DecidePortable; }

#endif

// Bins cover eight powers of two; what is farther below the largest value is
// little and shares the first. As many as are worth their while.
constexpr int kPowers = 8;
size_t BinsFor(size_t length) {
  constexpr size_t kLeast = 256, kMost = 2048;
  return std::clamp(std::bit_ceil(length) / 2, kLeast, kMost);
}
// Bits of a magnitude below those that tell its bin.
int ShiftFor(size_t bins) {
  return 23 - std::countr_zero(bins / size_t{kPowers});
}

}  // namespace

namespace internal {

CAIRN_VECTOR_CLONES uint32_t LargestMagnitude(const float* values,
                                              size_t count) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    largest = std::max(largest, MagnitudeBits(values[i]));
  }
  return largest;
}

// The bins of magnitudes, of which those up to `smallest` share the first.
CAIRN_VECTOR_CLONES void MagnitudeBins(const float* values, uint32_t smallest,
                                       int shift, uint16_t* bins,
                                       size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = std::max(MagnitudeBits(values[i]), smallest);
    bins[i] = static_cast<uint16_t>((bits - smallest) >> shift);
  }
}

// The least rank at which an element with a word is chosen, in place of it:
// rank / last_rank x range + low > word / 2^32.
CAIRN_VECTOR_CLONES void RanksNeeded(double low, double range, double last_rank,
                                     uint32_t* words, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const double probability = static_cast<double>(words[i]) * 0x1p-32;
    const double rank = (probability - low) / range * last_rank;
    words[i] = rank < 0 ? 0u : static_cast<uint32_t>(rank) + 1;
  }
}

// How many elements have smaller bits than element `index`, or the same and a
// smaller index.
CAIRN_VECTOR_CLONES uint32_t CountBefore(const uint32_t* bits,
                                         const uint32_t* indices, size_t count,
                                         uint32_t bound, uint32_t index) {
  uint32_t before = 0;
  for (size_t k = 0; k < count; ++k) {
    before += (bits[k] < bound) | ((bits[k] == bound) & (indices[k] < index))
                  ? 1u
                  : 0u;
  }
  return before;
}

// How many magnitudes are smaller than that of element `index`, or equal and
// before it.
CAIRN_VECTOR_CLONES uint32_t RankAmong(const float* values, size_t count,
                                       size_t index) {
  const uint32_t bound = MagnitudeBits(values[index]);
  uint32_t before = 0;
  for (size_t k = 0; k < index; ++k) {
    before += MagnitudeBits(values[k]) <= bound ? 1u : 0u;
  }
  for (size_t k = index; k < count; ++k) {
    before += MagnitudeBits(values[k]) < bound ? 1u : 0u;
  }
  return before;
}

}  // namespace internal

RankedChooser::RankedChooser(size_t length, double density, double epsilon)
    : length_(length),
      low_(density - (length > 1 ? epsilon : 0)),
      range_(length > 1 ? 2 * epsilon : 0),
      always_(Word(low_)),
      never_(Word(low_ + range_)),
      bin_count_(BinsFor(length)),
      shift_(ShiftFor(bin_count_)),
      bins_(length),
      starts_(bin_count_ + 1),
      others_(bin_count_),
      ends_(bin_count_),
      order_(length),
      placed_(length),
      ranks_(length),
      is_ranked_(bin_count_),
      undecided_(length + kListRoom),
      needed_(length + kListRoom) {}

int64_t RankedChooser::MemoryBytes(int64_t length, int64_t stride) {
  return length * (stride == 1 ? 22 : 30);
}

void RankedChooser::FillBins(const float* values) {
  const uint32_t reach = static_cast<uint32_t>(bin_count_ - 1) << shift_;
  const uint32_t largest = internal::LargestMagnitude(values, length_);
  internal::MagnitudeBins(values, largest > reach ? largest - reach : 0, shift_,
                          bins_.data(), length_);
  std::fill(starts_.begin(), starts_.end(), 0u);
  std::fill(others_.begin(), others_.end(), 0u);
  // Neighbours are counted apart, so that equal ones need not wait.
  uint32_t* counts = starts_.data() + 1;
  uint32_t* others = others_.data();
  const uint16_t* bins = bins_.data();
  size_t i = 0;
  for (; i + 2 <= length_; i += 2) {
    ++counts[bins[i]];
    ++others[bins[i + 1]];
  }
  if (i < length_) ++counts[bins[i]];
  uint32_t sum = 0;
  for (size_t bin = 0; bin < bin_count_; ++bin) {
    counts[bin] = sum += counts[bin] + others[bin];
  }
  is_placed_ = false;
}

void RankedChooser::Place(const float* values) {
  std::copy(starts_.begin(), starts_.end() - 1, ends_.begin());
  for (size_t i = 0; i < length_; ++i) {
    const uint32_t at = ends_[bins_[i]]++;
    order_[at] = static_cast<uint32_t>(i);
    placed_[at] = MagnitudeBits(values[i]);
  }
  std::fill(is_ranked_.begin(), is_ranked_.end(), false);
  is_placed_ = true;
}

void RankedChooser::RankBin(const float* values, uint16_t bin) {
  is_ranked_[bin] = true;
  const auto begin = order_.begin() + starts_[bin];
  const auto end = order_.begin() + starts_[bin + 1];
  std::stable_sort(begin, end, [&](uint32_t a, uint32_t b) {
    return MagnitudeBits(values[a]) < MagnitudeBits(values[b]);
  });
  uint32_t rank = starts_[bin];
  for (auto at = begin; at != end; ++at) ranks_[*at] = rank++;
}

uint32_t RankedChooser::RankOf(const float* values, uint32_t i) {
  // So many are counted sooner than sorted, as few of them are asked for.
  constexpr uint32_t kCountedMax = 256;
  if (!is_placed_) Place(values);
  const uint16_t bin = bins_[i];
  const uint32_t begin = starts_[bin];
  const uint32_t count = starts_[bin + 1] - begin;
  if (count <= kCountedMax) {
    return begin + internal::CountBefore(&placed_[begin], &order_[begin], count,
                                         MagnitudeBits(values[i]), i);
  }
  if (!is_ranked_[bin]) RankBin(values, bin);
  return ranks_[i];
}

size_t RankedChooser::DecideByBins(size_t count, uint32_t* words) {
  size_t n = 0;
  for (size_t k = 0; k < count; ++k) {
    const uint32_t i = undecided_[k], needed = needed_[k];
    const uint32_t first = starts_[bins_[i]];
    const uint32_t last = starts_[bins_[i] + 1];
    words[i] = first >= needed ? 1u : 0u;
    undecided_[n] = i;
    needed_[n] = needed;
    n += ((first < needed) & (last > needed)) ? 1u : 0u;
  }
  return n;
}

void RankedChooser::ChooseRow(const float* values, uint32_t* words) {
  FillBins(values);
  const size_t undecided = BestDecide()(always_, never_, words, length_,
                                        undecided_.data(), needed_.data());
  internal::RanksNeeded(low_, range_, static_cast<double>(length_ - 1),
                        needed_.data(), undecided);
  const size_t close = DecideByBins(undecided, words);
  // So few are counted among all sooner than all are placed.
  constexpr size_t kFew = 24;
  for (size_t k = 0; k < close; ++k) {
    const uint32_t i = undecided_[k];
    const uint32_t rank = close <= kFew
                              ? internal::RankAmong(values, length_, i)
                              : RankOf(values, i);
    words[i] = rank >= needed_[k] ? 1 : 0;
  }
}

void RankedChooser::Choose(const float* values, uint32_t* words,
                           size_t stride) {
  if (stride == 1) return ChooseRow(values, words);
  row_values_.resize(length_);
  row_words_.resize(length_);
  for (size_t i = 0; i < length_; ++i) {
    row_values_[i] = values[i * stride];
    row_words_[i] = words[i * stride];
  }
  ChooseRow(row_values_.data(), row_words_.data());
  for (size_t i = 0; i < length_; ++i) words[i * stride] = row_words_[i];
}

}  // namespace cairn
