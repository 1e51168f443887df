// Any bytes as a hub's configuration: refused, or settings that can be
// checked.
#include <cstdint>

#include "core/base/log.h"
#include "server/config/hub_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = cairn::ParseHubConfig(text, "hub.yaml");
  CAIRN_CHECK(config.ok() || absl::IsInvalidArgument(config.status()));
  if (config.ok()) (void)cairn::CheckHubConfig(*config);
  return 0;
}
