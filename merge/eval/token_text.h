#ifndef CAIRN_MERGE_EVAL_TOKEN_TEXT_H_
#define CAIRN_MERGE_EVAL_TOKEN_TEXT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// The text of token ids, by a model's tokenizer.json: the vocabulary and the
// `decoder`, which turns tokens into text. Tokens that are marked as special
// are left out, as transformers' decode(skip_special_tokens=True) does. No
// tokenizer: from text to ids there is a library's business. Immutable and
// thread-safe.
class TokenText {
 public:
  // DATA_LOSS with MALFORMED_FILE for a broken file, UNIMPLEMENTED with
  // UNSUPPORTED for a decoder that is not known here, which it names.
  static absl::StatusOr<TokenText> Parse(absl::string_view tokenizer_json);
  // Of the files of a model. UNSUPPORTED when it has no tokenizer.json.
  static absl::StatusOr<TokenText> Open(const FileMap& model_files);

  // Ids past the vocabulary have no text. A text ends after 1 MiB.
  std::string Decode(absl::Span<const int64_t> ids) const;

 private:
  using Tokens = std::vector<std::string>;
  using Step = std::function<void(Tokens&)>;

  std::unordered_map<int64_t, std::string> vocabulary_;
  std::vector<Step> steps_;
  bool is_spaced_ = false;  // without a decoder, tokens are words
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TOKEN_TEXT_H_
