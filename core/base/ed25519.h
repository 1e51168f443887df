#ifndef CAIRN_CORE_BASE_ED25519_H_
#define CAIRN_CORE_BASE_ED25519_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// An Ed25519 private key (RFC 8032), in memory. Sign() is thread-safe.
class SigningKey {
 public:
  // A new random key.
  static SigningKey Generate();
  // From the 64 hex digits of its 32-byte seed. INVALID_ARGUMENT otherwise.
  static absl::StatusOr<SigningKey> FromSeedHex(absl::string_view hex);

  // The seed, 64 hex digits: keep it in a file of mode 0600.
  const std::string& seed_hex() const { return seed_hex_; }
  // The public key, 64 hex digits.
  const std::string& public_hex() const { return public_hex_; }

  // The signature, 128 hex digits, over `domain` + NUL + `message`. The
  // domain, e.g. "cairn.manifest.v1", keeps a signature made for one purpose
  // from being used for another.
  std::string Sign(absl::string_view domain, absl::string_view message) const;

 private:
  SigningKey(std::string seed_hex, std::string public_hex);

  std::string seed_hex_;
  std::string public_hex_;
};

// OK when `signature_hex` is the signature by `public_hex`;
// INVALID_ARGUMENT with reason SIGNATURE_INVALID otherwise.
absl::Status VerifySignature(absl::string_view public_hex,
                             absl::string_view domain,
                             absl::string_view message,
                             absl::string_view signature_hex);

}  // namespace cairn

#endif  // CAIRN_CORE_BASE_ED25519_H_
