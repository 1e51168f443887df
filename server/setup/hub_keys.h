#ifndef CAIRN_SERVER_SETUP_HUB_KEYS_H_
#define CAIRN_SERVER_SETUP_HUB_KEYS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/v1/manifest.pb.h"
#include "core/base/ed25519.h"

namespace cairn {

inline constexpr absl::Duration kDelegationTtlDefault = absl::Hours(24 * 365);

// What identifies a hub and signs for it while it runs. The root's private
// key is not part of it: the hub serves and publishes without it.
struct HubKeys {
  std::string hub_id;
  std::string root_key;          // public, 64 hex digits
  std::string root_fingerprint;  // SHA-256 of the public key, hex
  SigningKey release_key;
  v1::SignedDelegation delegation;
  absl::Time delegation_end;
};

// Writes the identity of a new hub and its two keys under `data_dir`/keys:
// root.key, release.key (seeds, mode 0600), hub.json (public) and delegation.
absl::Status CreateHubKeys(const std::string& data_dir, absl::Time now,
                           absl::Duration delegation_ttl);

// Reads them again. NOT_FOUND when the directory was not made by `cairnd
// init`; DATA_LOSS when a file is broken or they do not fit each other.
absl::StatusOr<HubKeys> LoadHubKeys(const std::string& data_dir);

// Makes a new release key, delegated by the root key (its seed, as in
// root.key) for `ttl`. PERMISSION_DENIED when it is not this hub's root.
absl::Status RenewDelegation(const std::string& data_dir,
                             const SigningKey& root, absl::Time now,
                             absl::Duration ttl);

}  // namespace cairn

#endif  // CAIRN_SERVER_SETUP_HUB_KEYS_H_
