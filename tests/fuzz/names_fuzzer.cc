// Any bytes as the names and addresses that requests carry: refused, or what
// was read spells itself again.
#include <cstdint>
#include <string>

#include "absl/strings/match.h"
#include "core/base/device_name.h"
#include "core/base/digest.h"
#include "core/base/host_port.h"
#include "core/base/log.h"
#include "core/release/file_policy.h"
#include "core/rpc/hub_address.h"
#include "server/flow/resource_names.h"

namespace {

template <typename Name>
void Check(absl::string_view text) {
  const auto name = Name::Parse(text);
  CAIRN_CHECK(!name.ok() || name->full() == text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  Check<cairn::ModelName>(text);
  Check<cairn::UserName>(text);
  Check<cairn::ReleaseName>(text);
  Check<cairn::ContributionName>(text);
  Check<cairn::ReplayName>(text);
  (void)cairn::CheckRelativePath(text);
  (void)cairn::ParseHubAddress(text);
  (void)cairn::ParseHostPort(text, "x");
  (void)cairn::ParseDeviceName(text);
  const auto digest = cairn::Digest::Parse(text);
  CAIRN_CHECK(!digest.ok() ||
              absl::StrContains(text, absl::string_view(digest->hex())));
  return 0;
}
