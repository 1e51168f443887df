// Any bytes as adapter_config.json: refused with a reason, or usable ranks.
#include <cmath>
#include <cstdint>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "core/update/adapter_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  auto config = cairn::AdapterConfig::Parse(text, "adapter_config.json");
  if (!config.ok()) {
    CAIRN_CHECK(cairn::GetReason(config.status()).has_value());
    return 0;
  }
  for (const char* module : {"model.layers.0.mlp.up_proj", "q", ""}) {
    CAIRN_CHECK(config->RankOf(module) >= 1);
    CAIRN_CHECK(std::isfinite(config->ScaleOf(module)));
    config->Targets(module);
  }
  return 0;
}
