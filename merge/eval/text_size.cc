#include "merge/eval/text_size.h"

#include <cstddef>

namespace cairn {
namespace {

struct CodePoint {
  uint32_t value;
  size_t bytes;
};

CodePoint Decode(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  const size_t length = lead >= 0xF0   ? 4
                        : lead >= 0xE0 ? 3
                        : lead >= 0xC0 ? 2
                                       : 1;
  if (length == 1 || text.size() < length) return {lead, 1};
  uint32_t value = lead & (0xFFU >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {lead, 1};
    value = value << 6 | (byte(i) & 0x3FU);
  }
  return {value, length};
}

// What \s matches in Python's re.
bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 ||
         c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace

int64_t CountCharacters(absl::string_view text) {
  int64_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(Decode(text).bytes);
  return count;
}

int64_t CountWords(absl::string_view text) {
  int64_t count = 1;
  bool was_space = false;
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    const bool is_space = IsSpace(c.value);
    if (is_space && !was_space) ++count;
    was_space = is_space;
    text.remove_prefix(c.bytes);
  }
  return count;
}

}  // namespace cairn
