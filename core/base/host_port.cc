#include "core/base/host_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace cairn {

absl::StatusOr<HostPort> ParseHostPort(absl::string_view address,
                                       absl::string_view what) {
  absl::Status wrong = absl::InvalidArgumentError(
      absl::StrCat(what, " '", address,
                   "' is not HOST:PORT, e.g. 127.0.0.1:7443 or [::1]:7443"));
  size_t colon = address.rfind(':');
  if (colon == absl::string_view::npos) return wrong;
  absl::string_view host = address.substr(0, colon);
  HostPort out;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &out.port) || out.port < 0 ||
      out.port > 65'535) {
    return wrong;
  }
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return wrong;
  } else if (host.find(':') != absl::string_view::npos) {
    return wrong;
  }
  if (host.empty()) return wrong;
  out.host = std::string(host);
  return out;
}

std::string FormatHostPort(const HostPort& address) {
  const bool is_v6 = address.host.find(':') != std::string::npos;
  return absl::StrCat(is_v6 ? "[" : "", address.host, is_v6 ? "]" : "", ":",
                      address.port);
}

bool IsLoopback(absl::string_view host) {
  if (host == "localhost") return true;
  const std::string text(host);
  in_addr v4;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == IN_LOOPBACKNET;
  }
  in6_addr v6;
  return inet_pton(AF_INET6, text.c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LOOPBACK(&v6);
}

}  // namespace cairn
