#ifndef CAIRN_CORE_UPDATE_MANIFEST_H_
#define CAIRN_CORE_UPDATE_MANIFEST_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/manifest.pb.h"
#include "core/base/ed25519.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// What an author signs over: "cairn.manifest.v1" + NUL + the bytes.
inline constexpr char kManifestDomain[] = "cairn.manifest.v1";

// SHA-256 of all bytes, as hex.
absl::StatusOr<std::string> FileSha256(const ByteSource& source);

// The files of an update, sorted by path, with size and SHA-256; only those
// that IsUpdateFile() names. Reads all bytes.
absl::StatusOr<std::vector<v1::File>> DescribeUpdateFiles(const FileMap& files);

// The digest of an update, "sha256:" + hex: SHA-256 over one line
// `file <json-quoted path> <size> <sha256>\n` a file, sorted by path.
std::string UpdateDigest(absl::Span<const v1::File> files);

// A manifest as it is sent: the bytes that were signed.
struct SignedManifest {
  std::string bytes;
  std::string signature;  // 128 hex digits; empty when not signed
};

// Fills in author_key and update_digest, then serialises and signs.
SignedManifest SignManifest(v1::ContributionManifest manifest,
                            const SigningKey& key);

// Parses and checks a manifest's own consistency: names, digests, files sorted
// and allowed in an update, update_digest that fits the files.
// INVALID_ARGUMENT naming the field; reason MALFORMED_FILE, FORBIDDEN_FILE or
// LIMIT_EXCEEDED. The signature is another matter: VerifyManifest().
absl::StatusOr<v1::ContributionManifest> ParseManifest(absl::string_view bytes);

// OK when `signature` is that of the manifest's author_key over the bytes.
// INVALID_ARGUMENT with reason SIGNATURE_INVALID otherwise.
absl::Status VerifyManifest(const v1::ContributionManifest& manifest,
                            absl::string_view bytes,
                            absl::string_view signature);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_MANIFEST_H_
