#ifndef CAIRN_CORE_CODEC_ELEMENT_ORDER_H_
#define CAIRN_CORE_CODEC_ELEMENT_ORDER_H_

#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <cstddef>
#include <cstdint>

// Numbers as places in their order, and the distance between two places as a
// token with extra bits. T is the unsigned type of the element's width.

namespace cairn {

template <typename T>
inline constexpr int kBits = static_cast<int>(sizeof(T)) * CHAR_BIT;
template <typename T>
inline constexpr T kTopBit = static_cast<T>(T{1} << (kBits<T> - 1));

// The place of a bit pattern among those of sign and magnitude: greater
// numbers come later, -0 right before +0.
template <typename T>
T PlaceOf(T pattern) {
  const auto is_negative = static_cast<T>(pattern >> (kBits<T> - 1));
  return static_cast<T>(pattern ^
                        (static_cast<T>(T{0} - is_negative) | kTopBit<T>));
}

template <typename T>
T PatternAt(T place) {
  const auto is_positive = static_cast<T>(place >> (kBits<T> - 1));
  return static_cast<T>(place ^
                        (static_cast<T>(is_positive - T{1}) | kTopBit<T>));
}

// The distance as an unsigned number that is small for small distances of
// either direction, and back.
template <typename T>
T Fold(T distance) {
  const auto is_negative = static_cast<T>(distance >> (kBits<T> - 1));
  return static_cast<T>(static_cast<T>(distance << 1) ^
                        static_cast<T>(T{0} - is_negative));
}

template <typename T>
T Unfold(T folded) {
  return static_cast<T>((folded >> 1) ^
                        static_cast<T>(T{0} - static_cast<T>(folded & 1)));
}

// Folded distances below kExactTokens are tokens of their own; above, four
// tokens share an octave and extra bits tell its numbers apart.
inline constexpr uint64_t kExactTokens = 16;

template <typename T>
inline constexpr size_t kTokenLimit = size_t{32} * sizeof(T);

struct Token {
  uint8_t token;
  uint8_t extra_bits;
};

constexpr Token MakeToken(uint64_t folded) {
  if (folded < kExactTokens) return {static_cast<uint8_t>(folded), 0};
  const int octave = 63 - std::countl_zero(folded);
  return {static_cast<uint8_t>(kExactTokens +
                               4 * (static_cast<uint64_t>(octave) - 4) +
                               ((folded >> (octave - 2)) & 3)),
          static_cast<uint8_t>(octave - 2)};
}

// Tokens of the distances that are frequent, without a branch between them.
inline constexpr auto kSmallTokens = [] {
  std::array<Token, 256> tokens = {};
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = MakeToken(i);
  return tokens;
}();

inline Token TokenOf(uint64_t folded) {
  return folded < kSmallTokens.size() ? kSmallTokens[folded]
                                      : MakeToken(folded);
}

// The folded distances that share a token.
struct TokenRange {
  uint64_t first;
  uint8_t extra_bits;
};

inline constexpr auto kTokenRanges = [] {
  std::array<TokenRange, 256> ranges = {};
  for (size_t token = 0; token < ranges.size(); ++token) {
    if (token < kExactTokens) {
      ranges[token] = {token, 0};
      continue;
    }
    const size_t extra_bits = 2 + (token - kExactTokens) / 4;
    ranges[token] = {(uint64_t{4} | (token & 3)) << extra_bits,
                     static_cast<uint8_t>(extra_bits)};
  }
  return ranges;
}();

// The exponent of a number, in 256 steps: what its distance depends on.
template <typename T>
uint8_t ContextOf(T pattern, int exponent_bits) {
  if (exponent_bits == 0) return 0;
  const auto exponent = static_cast<unsigned>(static_cast<T>(pattern << 1) >>
                                              (kBits<T> - exponent_bits));
  if (exponent_bits <= 8) return static_cast<uint8_t>(exponent);
  // F64: the exponents that F32 has.
  constexpr int kFirst = 1023 - 128;
  return static_cast<uint8_t>(
      std::clamp(static_cast<int>(exponent) - kFirst, 0, 255));
}

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_ELEMENT_ORDER_H_
