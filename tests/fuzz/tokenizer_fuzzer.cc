// Any bytes as tokenizer.json: refused with a reason, or it can be cut, grown
// by another and read again.
#include <cstdint>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "merge/recipe/tokenizer_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = cairn::TokenizerFile::Parse(text, "tokenizer.json");
  if (!parsed.ok()) {
    CAIRN_CHECK(cairn::GetReason(parsed.status()).has_value());
    return 0;
  }
  static const cairn::TokenizerFile other =
      cairn::TokenizerFile::Parse(
          R"({"model":{"vocab":{"a":0,"z":1}},
              "added_tokens":[{"id":2,"content":"<z>"}]})",
          "other")
          .value();
  cairn::TokenizerFile file = *parsed;
  const absl::Status cut = file.DropFrom(3);
  CAIRN_CHECK(cut.ok() || cairn::GetReason(cut).has_value());
  if (!cut.ok()) return 0;
  for (const auto& [token, number] : other.tokens()) {
    if (!file.tokens().contains(token)) {
      file.Add(token, other);
    } else if (other.IsAdded(token) && !file.IsAdded(token)) {
      file.MakeAdded(token, other);
    }
  }
  // Texts that are no UTF-8 are replaced as they are written.
  (void)file.ConfigText(text);
  (void)cairn::TokenizerFile::Parse(file.Text(), "again");
  return 0;
}
