// Any bytes as a model's config.json: refused with a reason, or a model whose
// parameters have names and shapes.
#include <cstdint>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "merge/model/load_model.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto model = cairn::MakeModel(text, {});
  if (!model.ok()) {
    CAIRN_CHECK(cairn::GetReason(model.status()).has_value());
    return 0;
  }
  for (const auto& [name, parameter] : (*model)->parameters()) {
    CAIRN_CHECK(!name.empty());
  }
  return 0;
}
