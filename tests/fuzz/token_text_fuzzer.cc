// Any bytes as the tokenizer.json of a model that writes texts: refused, or
// ids become texts.
#include <cstdint>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "merge/eval/token_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto text = cairn::TokenText::Parse(
      absl::string_view(reinterpret_cast<const char*>(data), size));
  if (!text.ok()) {
    CAIRN_CHECK(cairn::GetReason(text.status()).has_value());
    return 0;
  }
  const std::vector<int64_t> ids = {0, 1, 2, 3, 1, 5, int64_t{1} << 40, -1};
  for (size_t count = 0; count <= ids.size(); ++count) {
    (void)text->Decode(absl::MakeConstSpan(ids).subspan(0, count));
  }
  return 0;
}
