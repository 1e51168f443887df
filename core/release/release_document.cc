#include "core/release/release_document.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/json_util.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/release/canonical_json.h"
#include "core/release/file_policy.h"
#include "core/release/release_digest.h"

namespace cairn {
namespace {

constexpr int kFormatVersion = 1;

// Maps in a fixed order, so that equal messages give equal bytes.
std::string SerializeDeterministically(
    const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

absl::Status Broken(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kDataLoss, "MALFORMED_FILE",
                       absl::StrCat(kReleaseDocumentFile, ": ", what),
                       {{"file", kReleaseDocumentFile}});
}

absl::Status Untrusted(absl::string_view what) {
  return ReasonedError(absl::StatusCode::kDataLoss, "SIGNATURE_INVALID",
                       absl::StrCat(kReleaseDocumentFile, ": ", what),
                       {{"file", kReleaseDocumentFile}});
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) +
         absl::Nanoseconds(time.nanos());
}

absl::Status CheckRoot(const v1::SignedDelegation& delegation,
                       absl::string_view root_fingerprint) {
  const std::string fingerprint = RootFingerprint(delegation.root_key());
  if (!root_fingerprint.empty() && fingerprint != root_fingerprint) {
    return Untrusted(absl::StrCat("its root key has the fingerprint ",
                                  fingerprint, "; the trusted one is ",
                                  root_fingerprint));
  }
  if (!VerifySignature(delegation.root_key(), kDelegationDomain,
                       delegation.delegation(), delegation.signature())
           .ok()) {
    return Untrusted("the root's signature over the delegation is wrong");
  }
  return absl::OkStatus();
}

absl::Status CheckDelegation(const v1::Delegation& delegation,
                             const v1::ReleaseManifest& manifest,
                             const v1::Signature& signature) {
  if (delegation.hub_id() != manifest.hub_id()) {
    return Untrusted(absl::StrCat(
        "the delegation is for hub ", JsonQuote(delegation.hub_id()),
        ", the release from ", JsonQuote(manifest.hub_id())));
  }
  if (delegation.release_key() != signature.key()) {
    return Untrusted(absl::StrCat("signed by key ", signature.key(),
                                  ", which the root has not delegated to"));
  }
  const absl::Time published = ToTime(manifest.create_time());
  if (published < ToTime(delegation.not_before()) ||
      published > ToTime(delegation.not_after())) {
    return Untrusted(absl::StrCat(
        "published at ", absl::FormatTime(published, absl::UTCTimeZone()),
        ", when the release key was not valid"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string SerializeReleaseManifest(const v1::ReleaseManifest& manifest) {
  return SerializeDeterministically(manifest);
}

v1::Signature SignRelease(absl::string_view manifest, const SigningKey& key) {
  v1::Signature signature;
  signature.set_key(key.public_hex());
  signature.set_signature(key.Sign(kReleaseDomain, manifest));
  return signature;
}

v1::SignedDelegation SignDelegation(const v1::Delegation& delegation,
                                    const SigningKey& root) {
  v1::SignedDelegation out;
  out.set_delegation(SerializeDeterministically(delegation));
  out.set_root_key(root.public_hex());
  out.set_signature(root.Sign(kDelegationDomain, out.delegation()));
  return out;
}

absl::StatusOr<std::string> RenderReleaseDocument(
    absl::string_view manifest, const v1::Signature& signature,
    const v1::SignedDelegation& delegation) {
  v1::ReleaseDocument document;
  document.set_format_version(kFormatVersion);
  document.set_manifest(std::string(manifest));
  if (!document.mutable_readable()->ParseFromString(document.manifest())) {
    return absl::InvalidArgumentError(
        "the manifest is not a ReleaseManifest message");
  }
  document.set_manifest_digest(ManifestDigest(manifest));
  document.set_digest(document.readable().digest());
  document.set_commit(CommitId(document.manifest_digest()));
  *document.add_signatures() = signature;
  *document.mutable_delegation() = delegation;
  return CanonicalJson(document);
}

absl::StatusOr<v1::ReleaseDocument> ParseReleaseDocument(
    absl::string_view text) {
  // Depth and duplicate keys first: the message parser is more lenient.
  auto tree = JsonValue::Parse(text, kReleaseDocumentFile);
  if (!tree.ok()) return Broken(tree.status().message());
  v1::ReleaseDocument document;
  auto parsed =
      google::protobuf::util::JsonStringToMessage(std::string(text), &document);
  if (!parsed.ok()) {
    return Broken(absl::StrCat("not a release document: ",
                               std::string(parsed.message())));
  }
  if (document.format_version() != kFormatVersion) {
    return Broken(absl::StrCat("format version ", document.format_version(),
                               " is not one this program reads: want ",
                               kFormatVersion));
  }
  if (document.signatures_size() != 1 || !document.has_delegation()) {
    return Broken("must have one signature and a delegation");
  }
  auto rendered = RenderReleaseDocument(
      document.manifest(), document.signatures(0), document.delegation());
  if (!rendered.ok()) return Broken(rendered.status().message());
  if (*rendered != text) {
    return Broken("its parts do not agree with the signed manifest");
  }
  return document;
}

std::string RootFingerprint(absl::string_view root_key) {
  auto raw = FromHex(root_key);
  return Digest::Of(raw.ok() ? *raw : std::string(root_key)).hex();
}

absl::StatusOr<v1::ReleaseManifest> VerifyReleaseDocument(
    absl::string_view text, absl::string_view root_fingerprint) {
  CAIRN_ASSIGN_OR_RETURN(v1::ReleaseDocument document,
                         ParseReleaseDocument(text));
  CAIRN_RETURN_IF_ERROR(CheckRoot(document.delegation(), root_fingerprint));
  v1::Delegation delegation;
  if (!delegation.ParseFromString(document.delegation().delegation())) {
    return Broken("the delegation is not a Delegation message");
  }
  const v1::Signature& signature = document.signatures(0);
  v1::ReleaseManifest manifest = std::move(*document.mutable_readable());
  CAIRN_RETURN_IF_ERROR(CheckDelegation(delegation, manifest, signature));
  if (!VerifySignature(signature.key(), kReleaseDomain, document.manifest(),
                       signature.signature())
           .ok()) {
    return Untrusted("the signature over the manifest is wrong");
  }
  return manifest;
}

}  // namespace cairn
