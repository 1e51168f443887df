#ifndef CAIRN_CORE_BASE_HOST_PORT_H_
#define CAIRN_CORE_BASE_HOST_PORT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// HOST and PORT of "HOST:PORT" or "[IPv6]:PORT". INVALID_ARGUMENT otherwise;
// `what` names the setting.
struct HostPort {
  std::string host;
  int port = 0;
};
absl::StatusOr<HostPort> ParseHostPort(absl::string_view address,
                                       absl::string_view what);

// "HOST:PORT", with brackets around an IPv6 address.
std::string FormatHostPort(const HostPort& address);

// True for "localhost" and for literal addresses that only this machine can
// reach. Other names are not looked up: what they mean may change.
bool IsLoopback(absl::string_view host);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_HOST_PORT_H_
