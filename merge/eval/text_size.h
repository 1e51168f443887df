#ifndef CAIRN_MERGE_EVAL_TEXT_SIZE_H_
#define CAIRN_MERGE_EVAL_TEXT_SIZE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace cairn {

// Sizes by which scores of texts are divided, as lm-evaluation-harness counts
// them. The text is UTF-8; a stray byte counts as one character.

// Unicode code points.
int64_t CountCharacters(absl::string_view text);

// Fields between runs of Unicode white space: leading or trailing space makes
// one more, an empty text has one.
int64_t CountWords(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TEXT_SIZE_H_
