// Any bytes as cairn-release.json: refused, or it renders to itself.
#include <cstdint>

#include "core/base/log.h"
#include "core/release/release_document.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  auto document = cairn::ParseReleaseDocument(text);
  if (!document.ok()) {
    CAIRN_CHECK(document.status().code() == absl::StatusCode::kDataLoss);
    return 0;
  }
  auto again = cairn::RenderReleaseDocument(
      document->manifest(), document->signatures(0), document->delegation());
  CAIRN_CHECK(again.ok() && *again == text);
  (void)cairn::VerifyReleaseDocument(text, "");
  return 0;
}
