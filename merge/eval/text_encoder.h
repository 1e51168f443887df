#ifndef CAIRN_MERGE_EVAL_TEXT_ENCODER_H_
#define CAIRN_MERGE_EVAL_TEXT_ENCODER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// How to make a suite of token ids out of one of texts.
inline constexpr char kHowToTokenise[] =
    "tokenise once in Python (transformers.AutoTokenizer) and write the ids";

// Turns texts into token ids, without special tokens, by the sentencepiece
// model among a model's files (tokenizer.model, spiece.model), for classes of
// tokenizers whose ids are those of sentencepiece. The library runs in a
// process of its own, `cairn-tokenize`, beside this program or on PATH.
class TextEncoder {
 public:
  // UNIMPLEMENTED with UNSUPPORTED for a model with another kind of tokenizer,
  // which says how to tokenise instead; NOT_FOUND without the program.
  static absl::StatusOr<TextEncoder> Open(const FileMap& model_files);

  // UNSUPPORTED for a text in which transformers sees more than text: one of
  // the model's added tokens, or a space in front, which its versions treat
  // differently. DATA_LOSS for a broken model of sentencepiece.
  absl::StatusOr<std::vector<std::vector<int64_t>>> Encode(
      const std::vector<std::string>& texts) const;

 private:
  TextEncoder() = default;

  std::string program_;
  SharedSource model_;
  std::vector<std::string> added_;  // tokens that are not sentencepiece's
};

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_TEXT_ENCODER_H_
