#ifndef CAIRN_SERVER_RELEASE_RELEASE_SIGNER_H_
#define CAIRN_SERVER_RELEASE_RELEASE_SIGNER_H_

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "cairn/v1/manifest.pb.h"
#include "core/base/ed25519.h"

namespace cairn {

// A manifest with what was derived from its bytes.
struct SealedManifest {
  std::string manifest;         // serialised; what is signed and stored
  std::string manifest_digest;  // "sha256:" + hex
  std::string commit;           // 40 hex digits
  v1::Signature signature;
  std::string document;  // text of cairn-release.json
};

// Signs releases with the key that the root delegated to. Thread-safe.
class ReleaseSigner {
 public:
  // `valid_until`: the end of the delegation.
  ReleaseSigner(std::string hub_id, SigningKey key,
                v1::SignedDelegation delegation, absl::Time valid_until)
      : hub_id_(std::move(hub_id)),
        key_(std::move(key)),
        delegation_(std::move(delegation)),
        valid_until_(valid_until) {}

  const std::string& hub_id() const { return hub_id_; }

  // FAILED_PRECONDITION when the delegation ends before the manifest's
  // create_time: nobody could verify the release.
  absl::StatusOr<SealedManifest> Seal(
      const v1::ReleaseManifest& manifest) const;

 private:
  const std::string hub_id_;
  const SigningKey key_;
  const v1::SignedDelegation delegation_;
  const absl::Time valid_until_;
};

}  // namespace cairn

#endif  // CAIRN_SERVER_RELEASE_RELEASE_SIGNER_H_
