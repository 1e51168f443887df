#ifndef CAIRN_CORE_RELEASE_RELEASE_DIGEST_H_
#define CAIRN_CORE_RELEASE_RELEASE_DIGEST_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/common.pb.h"

namespace cairn {

// True for the files beside the tensors that say what a model computes:
// config and tokenizer files. Not safetensors files (their tensors count),
// README, licence and cairn-release.json.
bool CountsForDigest(absl::string_view path);

// The digest of a release or candidate, "sha256:" + hex: what is evaluated,
// replayed and compared. SHA-256 over a text of one line a tensor, sorted by
// name, `tensor <json-quoted name> <dtype> [<d0>,<d1>...] <sha256>\n`, then one
// line a file that counts, sorted by path, `file <json-quoted path>
// <sha256>\n`. `files` may hold all files of the release.
std::string ReleaseDigest(const v1::TensorManifest& tensors,
                          absl::Span<const v1::File> files);
// The same for a repeated field of files.
template <typename Files>
std::string ReleaseDigest(const v1::TensorManifest& tensors,
                          const Files& files) {
  return ReleaseDigest(tensors,
                       absl::Span<const v1::File>(
                           std::vector<v1::File>(files.begin(), files.end())));
}

// "sha256:" + hex of a serialised ReleaseManifest.
std::string ManifestDigest(absl::string_view manifest);

// The 40-hex commit id of a manifest digest (with or without "sha256:"): the
// first 40 digits of SHA-256("cairn.commit.v1" + NUL + digest hex).
std::string CommitId(absl::string_view manifest_digest);

}  // namespace cairn

#endif  // CAIRN_CORE_RELEASE_RELEASE_DIGEST_H_
