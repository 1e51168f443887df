#ifndef CAIRN_CORE_BASE_UTF8_H_
#define CAIRN_CORE_BASE_UTF8_H_

#include <string>

#include "absl/strings/string_view.h"

namespace cairn {

// Whether bytes are UTF-8: shortest forms only, no surrogates, nothing past
// U+10FFFF.
bool IsUtf8(absl::string_view bytes);

// The same bytes with U+FFFD in place of each that is not part of UTF-8, so
// that protobuf takes them for a text.
std::string MakeUtf8(absl::string_view bytes);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_UTF8_H_
