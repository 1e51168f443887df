// Any bytes as a policy file: refused, or a policy.
#include <cstdint>

#include "client/policy_yaml.h"
#include "core/base/log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto policy = cairn::ParsePolicy(text, "policy.yaml");
  CAIRN_CHECK(policy.ok() || absl::IsInvalidArgument(policy.status()));
  (void)cairn::ParseSeconds(text);
  return 0;
}
