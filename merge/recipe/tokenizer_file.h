#ifndef CAIRN_MERGE_RECIPE_TOKENIZER_FILE_H_
#define CAIRN_MERGE_RECIPE_TOKENIZER_FILE_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// A tokenizer.json of the tokenizers library: which token has which number,
// and how that file grows. What splits texts into tokens stays as it is.
class TokenizerFile {
 public:
  // INVALID_ARGUMENT with MALFORMED_FILE naming `label` when it is none, or
  // gives one number to two tokens.
  static absl::StatusOr<TokenizerFile> Parse(absl::string_view text,
                                             absl::string_view label);

  // Every token, added ones too, with its number.
  const std::map<std::string, int64_t>& tokens() const { return tokens_; }
  bool IsAdded(const std::string& token) const {
    return added_.contains(token);
  }

  // Forgets tokens whose number is `limit` or more, which a model has no rows
  // for. UNSUPPORTED when one of them belongs to a model other than BPE.
  absl::Status DropFrom(int64_t limit);
  // Takes a token of `other` in under the next number, as an added token: with
  // its settings there when it is one there, to be found anywhere in a text
  // otherwise.
  void Add(const std::string& token, const TokenizerFile& other);
  // The same with the settings of a token that no other file knows.
  void AddPlain(const std::string& token) { Add(token, *this); }
  // Gives a token of the vocabulary the settings that it has as an added one.
  void MakeAdded(const std::string& token, const TokenizerFile& other);

  std::string Text() const;
  // tokenizer_config.json `text`, with the added tokens that it lists.
  std::string ConfigText(absl::string_view text) const;

 private:
  TokenizerFile() = default;

  std::string label_;
  nlohmann::ordered_json json_;
  std::map<std::string, int64_t> tokens_;
  std::map<std::string, nlohmann::ordered_json> added_;  // as they are listed
  int64_t next_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_TOKENIZER_FILE_H_
