#ifndef CAIRN_CORE_RPC_HUB_ADDRESS_H_
#define CAIRN_CORE_RPC_HUB_ADDRESS_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// How a hub is reached. Without TLS nothing keeps a token from whoever is on
// the way, so only ways that stay on this machine may go without.
struct HubAddress {
  enum class Security { kTls, kPlain };

  // As gRPC takes it.
  std::string target;
  Security security = Security::kTls;
};

// Of what people write:
//   HOST:PORT or https://HOST:PORT   over TLS
//   http://127.0.0.1:PORT            without; also localhost and [::1]
//   unix:/PATH                       without, through a socket file
// INVALID_ARGUMENT for http:// to any other host and for malformed addresses.
absl::StatusOr<HubAddress> ParseHubAddress(absl::string_view text);

}  // namespace cairn

#endif  // CAIRN_CORE_RPC_HUB_ADDRESS_H_
