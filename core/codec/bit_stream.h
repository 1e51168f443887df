#ifndef CAIRN_CORE_CODEC_BIT_STREAM_H_
#define CAIRN_CORE_CODEC_BIT_STREAM_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/span.h"

// Numbers of given numbers of bits, lowest bit first, one after the other.

namespace cairn {

// Not thread-safe.
class BitWriter {
 public:
  // Forgets what was written and makes room for `bits_max` bits.
  void Start(size_t bits_max) {
    bytes_.resize(bits_max / 8 + 16);
    at_ = bytes_.data();
    fill_ = 0;
    pending_ = 0;
  }
  // Appends the low `bits` bits, at most 56, of `value`; its others are 0.
  void Put(uint64_t value, unsigned bits) {
    pending_ |= value << fill_;
    fill_ += bits;
    std::memcpy(at_, &pending_, 8);
    at_ += fill_ / 8;
    pending_ >>= fill_ & ~7U;
    fill_ %= 8;
  }
  // Appends a number from 1 on in Elias' gamma code: few bits for small ones.
  void PutGamma(uint64_t value) {
    const auto bits = static_cast<unsigned>(std::bit_width(value));
    Put(0, bits - 1);
    Put(1, 1);
    Put(value ^ (uint64_t{1} << (bits - 1)), bits - 1);
  }
  size_t bits() const {
    return 8 * static_cast<size_t>(at_ - bytes_.data()) + fill_;
  }
  // What was written, the last byte filled with 0; until the next call.
  absl::Span<const char> bytes() const {
    return {bytes_.data(), (bits() + 7) / 8};
  }

 private:
  std::vector<char> bytes_;
  char* at_ = nullptr;
  unsigned fill_ = 0;
  uint64_t pending_ = 0;
};

// Reads on past the end without harm as far as the bytes that follow can be
// read: the caller looks at position() often enough. Not thread-safe.
class BitReader {
 public:
  // 8 bytes after those read can be read too.
  explicit BitReader(const char* bytes) : bytes_(bytes) {}

  // The next number of `bits` bits, at most 56.
  uint64_t Get(unsigned bits) {
    uint64_t window;
    std::memcpy(&window, bytes_ + position_ / 8, 8);
    window >>= position_ % 8;
    position_ += bits;
    return window & ((uint64_t{1} << bits) - 1);
  }
  // Bits read.
  size_t position() const { return position_; }

 private:
  const char* bytes_;
  size_t position_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_CODEC_BIT_STREAM_H_
