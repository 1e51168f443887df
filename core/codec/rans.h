#ifndef CAIRN_CORE_CODEC_RANS_H_
#define CAIRN_CORE_CODEC_RANS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

// Range asymmetric numeral systems (Duda, arXiv:1311.2540) with static tables:
// tokens of up to 8 bits, each coded by the table of its class, at a cost
// close to its entropy also where that is far below a bit. Four states take
// turns, so that four tokens are under way at a time.

namespace cairn {

inline constexpr int kRansBits = 12;
inline constexpr uint32_t kRansTotal = uint32_t{1} << kRansBits;
inline constexpr int kRansLanes = 4;
// Every state starts here when it writes and ends here when it reads.
inline constexpr uint64_t kRansLow = uint64_t{1} << 31;
// What the states take at the head of the coded tokens.
inline constexpr size_t kRansHeadBytes = 8 * kRansLanes;

// How often a token is taken to occur among kRansTotal.
using RansFrequencies = std::array<uint16_t, 256>;

// Scales counts, not all of them 0, to frequencies with the sum kRansTotal
// that are 0 exactly where the count is.
RansFrequencies ScaleCounts(absl::Span<const uint32_t> counts);

// Encodes tokens from the last to the first. Not thread-safe.
class RansEncoder {
 public:
  // Begins anew with a table for each class.
  void Start(absl::Span<const RansFrequencies> classes);
  // Encodes tokens[i] with the table of class_of[contexts[i]]; that table has
  // it. Returns the coded bytes, which stay until the next call.
  absl::Span<const char> Encode(absl::Span<const uint8_t> tokens,
                                absl::Span<const uint8_t> contexts,
                                const std::array<uint8_t, 256>& class_of);

 private:
  // x -> (x / f) * total + start + x % f, the division as a multiplication
  // (Alverson, "Integer division using reciprocals", 1991).
  struct Symbol {
    uint64_t reciprocal = 0;
    uint64_t limit = 0;  // of a state that need not be written first
    uint32_t bias = 0;
    uint16_t complement = 0;
    uint16_t shift = 0;
  };
  static Symbol MakeSymbol(uint32_t start, uint32_t frequency);

  std::vector<Symbol> symbols_;  // 256 a class
  std::vector<char> words_;
};

// Decodes tokens from the first on. Reads at most kOverrun bytes past the end
// of what it is given before IsWithin() says so: the caller sees to it that
// they can be read. Not thread-safe.
class RansDecoder {
 public:
  // Tokens decoded between two looks at IsWithin().
  static constexpr size_t kTokensMax = 64;
  static constexpr size_t kOverrun = 4 * kTokensMax;

  // Makes the tables; the frequencies of each class have the sum kRansTotal.
  void SetTables(absl::Span<const RansFrequencies> classes);
  // Begins to read `coded`, at least kRansHeadBytes long. False when its
  // states are none.
  bool Start(absl::Span<const char> coded);
  // Decodes `count` tokens, at most kTokensMax, the i-th by the table of class
  // classes[i]. All calls but the last have a multiple of kRansLanes.
  void Decode(const uint8_t* classes, size_t count, uint8_t* tokens);
  // False once more was read than there is.
  bool IsWithin() const { return at_ <= end_; }
  // True when all tokens that were encoded, and no others, were decoded.
  bool IsDone() const;

 private:
  // token | start << 8 | (frequency - 1) << 20, for each class and each
  // remainder of a state.
  std::vector<uint32_t> slots_;
  std::array<uint64_t, kRansLanes> states_ = {};
  const char* at_ = nullptr;
  const char* end_ = nullptr;
};

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_RANS_H_
