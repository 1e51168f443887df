#include "server/release/release_signer.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/release/release_digest.h"
#include "core/release/release_document.h"
#include "server/flow/contribution_state.h"

namespace cairn {

absl::StatusOr<SealedManifest> ReleaseSigner::Seal(
    const v1::ReleaseManifest& manifest) const {
  if (FromTimestamp(manifest.create_time()) > valid_until_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the release key's delegation ended at ",
        absl::FormatTime(valid_until_, absl::UTCTimeZone()),
        "; renew it with: cairnd delegate --root-key FILE, then restart"));
  }
  SealedManifest out;
  out.manifest = SerializeReleaseManifest(manifest);
  out.manifest_digest = ManifestDigest(out.manifest);
  out.commit = CommitId(out.manifest_digest);
  out.signature = SignRelease(out.manifest, key_);
  CAIRN_ASSIGN_OR_RETURN(
      out.document,
      RenderReleaseDocument(out.manifest, out.signature, delegation_));
  return out;
}

}  // namespace cairn
