#ifndef CAIRN_SERVER_SETUP_CERTIFICATE_AUTHORITY_H_
#define CAIRN_SERVER_SETUP_CERTIFICATE_AUTHORITY_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"

namespace cairn {

// A certificate and its private key, both as PEM.
struct CertificatePair {
  std::string certificate;
  std::string key;
};

// A self-signed P-256 certificate that may sign server certificates only one
// level below it.
absl::StatusOr<CertificatePair> MakeAuthority(absl::string_view common_name,
                                              absl::Time not_before,
                                              absl::Duration valid);

// A P-256 server certificate for these host names and IP addresses, signed by
// the authority. INVALID_ARGUMENT without a name, or for one that is neither
// an IP address nor a host name (letters, digits, '-', '.', a leading '*.').
absl::StatusOr<CertificatePair> MakeServerCertificate(
    const CertificatePair& authority, absl::Span<const std::string> names,
    absl::Time not_before, absl::Duration valid);

// When a PEM certificate ends. INVALID_ARGUMENT when it is none.
absl::StatusOr<absl::Time> CertificateExpiry(absl::string_view certificate);

}  // namespace cairn

#endif  // CAIRN_SERVER_SETUP_CERTIFICATE_AUTHORITY_H_
