#include "core/rpc/hub_address.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/host_port.h"
#include "core/base/status_macros.h"

namespace cairn {

absl::StatusOr<HubAddress> ParseHubAddress(absl::string_view text) {
  using Security = HubAddress::Security;
  if (absl::StartsWith(text, "unix:")) {
    return HubAddress{.target = std::string(text),
                      .security = Security::kPlain};
  }
  absl::string_view rest = text;
  if (!absl::ConsumePrefix(&rest, "http://")) {
    absl::ConsumePrefix(&rest, "https://");
    return HubAddress{.target = std::string(rest)};
  }
  CAIRN_ASSIGN_OR_RETURN(HostPort plain, ParseHostPort(rest, "hub"));
  if (!IsLoopback(plain.host)) {
    return absl::InvalidArgumentError(absl::StrCat(
        text, " would send your token in the clear over a network: without "
        "TLS a hub is spoken to on its own machine only (http://127.0.0.1:PORT "
        "or unix:/PATH); say --hub ", rest, " to use TLS"));
  }
  // A name could come to mean something else.
  if (plain.host == "localhost") plain.host = "127.0.0.1";
  return HubAddress{.target = FormatHostPort(plain),
                    .security = Security::kPlain};
}

}  // namespace cairn
