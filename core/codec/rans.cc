#include "core/codec/rans.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/base/log.h"

namespace cairn {
namespace {

constexpr uint64_t kStateMax = uint64_t{1} << 63;

uint64_t HighProduct(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
}

}  // namespace

RansFrequencies ScaleCounts(absl::Span<const uint32_t> counts) {
  uint64_t sum = 0;
  for (const uint32_t count : counts) sum += count;
  CAIRN_CHECK(sum > 0 && counts.size() <= 256);
  RansFrequencies frequencies = {};
  int64_t left = kRansTotal;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const uint64_t scaled = (counts[i] * uint64_t{kRansTotal} + sum / 2) / sum;
    frequencies[i] = static_cast<uint16_t>(std::max<uint64_t>(scaled, 1));
    left -= frequencies[i];
  }
  // What rounding left over or took too much goes to the most frequent, who
  // feel it least.
  while (left != 0) {
    auto most = std::max_element(frequencies.begin(), frequencies.end());
    const int64_t change =
        left > 0 ? left : std::max<int64_t>(left, -int64_t{*most / 2});
    *most = static_cast<uint16_t>(*most + change);
    left -= change;
  }
  return frequencies;
}

RansEncoder::Symbol RansEncoder::MakeSymbol(uint32_t start,
                                            uint32_t frequency) {
  Symbol symbol;
  symbol.limit = ((kRansLow >> kRansBits) << 32) * frequency;
  symbol.complement = static_cast<uint16_t>(kRansTotal - frequency);
  if (frequency == 1) {
    // The product is x - 1 here; the bias makes up for it.
    symbol.reciprocal = ~uint64_t{0};
    symbol.bias = start + kRansTotal - 1;
    return symbol;
  }
  const auto shift = static_cast<int>(std::bit_width(frequency - 1));
  const unsigned __int128 numerator =
      (static_cast<unsigned __int128>(1) << (shift + 63)) + frequency - 1;
  symbol.reciprocal = static_cast<uint64_t>(numerator / frequency);
  symbol.shift = static_cast<uint16_t>(shift - 1);
  symbol.bias = start;
  return symbol;
}

void RansEncoder::Start(absl::Span<const RansFrequencies> classes) {
  symbols_.assign(256 * classes.size(), {});
  for (size_t c = 0; c < classes.size(); ++c) {
    uint32_t start = 0;
    for (size_t token = 0; token < 256; ++token) {
      const uint32_t frequency = classes[c][token];
      if (frequency == 0) continue;
      symbols_[256 * c + token] = MakeSymbol(start, frequency);
      start += frequency;
    }
  }
}

absl::Span<const char> RansEncoder::Encode(
    absl::Span<const uint8_t> tokens, absl::Span<const uint8_t> contexts,
    const std::array<uint8_t, 256>& class_of) {
  words_.resize(4 * tokens.size() + kRansHeadBytes);
  char* out = words_.data() + words_.size();
  std::array<uint64_t, kRansLanes> states;
  states.fill(kRansLow);
  const Symbol* const symbols = symbols_.data();
  const auto put = [&](size_t i, uint64_t& state) {
    const Symbol& symbol =
        symbols[256 * size_t{class_of[contexts[i]]} + tokens[i]];
    if (state >= symbol.limit) {
      const auto word = static_cast<uint32_t>(state);
      out -= 4;
      std::memcpy(out, &word, 4);
      state >>= 32;
    }
    const uint64_t quotient =
        HighProduct(state, symbol.reciprocal) >> symbol.shift;
    state += symbol.bias + quotient * symbol.complement;
  };
  size_t i = tokens.size();
  while (i % kRansLanes != 0) --i, put(i, states[i % kRansLanes]);
  for (; i > 0; i -= kRansLanes) {
    put(i - 1, states[3]);
    put(i - 2, states[2]);
    put(i - 3, states[1]);
    put(i - 4, states[0]);
  }
  out -= kRansHeadBytes;
  std::memcpy(out, states.data(), kRansHeadBytes);
  return {out, static_cast<size_t>(words_.data() + words_.size() - out)};
}

void RansDecoder::SetTables(absl::Span<const RansFrequencies> classes) {
  slots_.resize(size_t{kRansTotal} * classes.size());
  for (size_t c = 0; c < classes.size(); ++c) {
    uint32_t* const slots = slots_.data() + size_t{kRansTotal} * c;
    uint32_t start = 0;
    for (uint32_t token = 0; token < 256; ++token) {
      const uint32_t frequency = classes[c][token];
      if (frequency == 0) continue;
      std::fill_n(slots + start, frequency,
                  token | start << 8 | (frequency - 1) << 20);
      start += frequency;
    }
    CAIRN_CHECK(start == kRansTotal);
  }
}

bool RansDecoder::Start(absl::Span<const char> coded) {
  CAIRN_CHECK(coded.size() >= kRansHeadBytes);
  std::memcpy(states_.data(), coded.data(), kRansHeadBytes);
  at_ = coded.data() + kRansHeadBytes;
  end_ = coded.data() + coded.size();
  return std::all_of(states_.begin(), states_.end(), [](uint64_t state) {
    return state >= kRansLow && state < kStateMax;
  });
}

void RansDecoder::Decode(const uint8_t* classes, size_t count,
                         uint8_t* tokens) {
  const uint32_t* const slots = slots_.data();
  const char* at = at_;
  const auto get = [&](size_t i, uint64_t state) {
    const uint64_t rest = state % kRansTotal;
    const uint32_t slot = slots[size_t{kRansTotal} * classes[i] + rest];
    tokens[i] = static_cast<uint8_t>(slot);
    state = (uint64_t{slot >> 20} + 1) * (state >> kRansBits) + rest -
            ((slot >> 8) % kRansTotal);
    uint32_t word;
    std::memcpy(&word, at, 4);
    const bool is_low = state < kRansLow;
    at += is_low ? 4 : 0;
    return is_low ? (state << 32 | word) : state;
  };
  auto [a, b, c, d] = states_;
  size_t i = 0;
  for (; i + kRansLanes <= count; i += kRansLanes) {
    a = get(i, a);
    b = get(i + 1, b);
    c = get(i + 2, c);
    d = get(i + 3, d);
  }
  states_ = {a, b, c, d};
  for (; i < count; ++i) {
    states_[i % kRansLanes] = get(i, states_[i % kRansLanes]);
  }
  at_ = at;
}

bool RansDecoder::IsDone() const {
  return at_ == end_ &&
         std::all_of(states_.begin(), states_.end(),
                     [](uint64_t state) { return state == kRansLow; });
}

}  // namespace cairn
