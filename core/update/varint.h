#ifndef CAIRN_CORE_UPDATE_VARINT_H_
#define CAIRN_CORE_UPDATE_VARINT_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// Unsigned integers below 2^63 in groups of 7 bits, lowest first, the top bit
// set on all bytes but the last. Each number has one spelling: the shortest.
inline constexpr int kVarintBytesMax = 9;

inline int VarintBytes(uint64_t value) {
  int bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

inline void AppendVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) {
    out += static_cast<char>((value & 0x7f) | 0x80);
  }
  out += static_cast<char>(value);
}

// Takes a number off the front of `in`; none when it is cut short, longer than
// needed or past 63 bits, and `in` is then unchanged.
inline std::optional<uint64_t> ConsumeVarint(absl::string_view& in) {
  uint64_t value = 0;
  for (size_t i = 0; i < in.size() && i < kVarintBytesMax; ++i) {
    const auto byte = static_cast<uint8_t>(in[i]);
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      if (byte == 0 && i > 0) return std::nullopt;
      in.remove_prefix(i + 1);
      return value;
    }
  }
  return std::nullopt;
}

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_VARINT_H_
