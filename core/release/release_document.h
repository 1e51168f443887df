#ifndef CAIRN_CORE_RELEASE_RELEASE_DOCUMENT_H_
#define CAIRN_CORE_RELEASE_RELEASE_DOCUMENT_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/manifest.pb.h"
#include "core/base/ed25519.h"

namespace cairn {

// What a release key signs over: this + NUL + the serialised ReleaseManifest.
inline constexpr char kReleaseDomain[] = "cairn.release.v1";
// What the root signs over: this + NUL + the serialised Delegation.
inline constexpr char kDelegationDomain[] = "cairn.delegation.v1";

// A manifest as it is stored: serialise once, keep the bytes.
std::string SerializeReleaseManifest(const v1::ReleaseManifest& manifest);

// The signature of a release key over a serialised manifest.
v1::Signature SignRelease(absl::string_view manifest, const SigningKey& key);

// The root's statement that the delegation's release_key may sign.
v1::SignedDelegation SignDelegation(const v1::Delegation& delegation,
                                    const SigningKey& root);

// The text of cairn-release.json. It is a function of its arguments alone.
// INVALID_ARGUMENT when `manifest` is not a serialised ReleaseManifest.
absl::StatusOr<std::string> RenderReleaseDocument(
    absl::string_view manifest, const v1::Signature& signature,
    const v1::SignedDelegation& delegation);

// Parses cairn-release.json and checks that the text is, byte for byte, what
// RenderReleaseDocument() writes for its content. DATA_LOSS otherwise.
absl::StatusOr<v1::ReleaseDocument> ParseReleaseDocument(
    absl::string_view text);

// SHA-256 of the root's public key (given as 64 hex digits), hex: what clients
// pin. `cairnd init` prints it.
std::string RootFingerprint(absl::string_view root_key);

// Parses a document and checks its chain of signatures: the root (whose
// fingerprint must be `root_fingerprint`; empty accepts the document's own)
// delegates to the key that signed the manifest, for this hub and at the time
// of publishing. Returns the signed manifest. DATA_LOSS with reason
// SIGNATURE_INVALID, or plain, otherwise.
absl::StatusOr<v1::ReleaseManifest> VerifyReleaseDocument(
    absl::string_view text, absl::string_view root_fingerprint);

}  // namespace cairn

#endif  // CAIRN_CORE_RELEASE_RELEASE_DOCUMENT_H_
