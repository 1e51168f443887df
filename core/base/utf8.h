#ifndef CAIRN_CORE_BASE_UTF8_H_
#define CAIRN_CORE_BASE_UTF8_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// Bytes of the character of UTF-8 that begins a text, which is not empty; 0
// where none does. Shortest forms only, no surrogates, nothing past U+10FFFF.
size_t CharacterLength(absl::string_view text);

// Whether bytes are UTF-8.
bool IsUtf8(absl::string_view bytes);

// The same bytes with U+FFFD in place of each that is not part of UTF-8, so
// that protobuf takes them for a text.
std::string MakeUtf8(absl::string_view bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_UTF8_H_
