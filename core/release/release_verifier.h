#ifndef CAIRN_CORE_RELEASE_RELEASE_VERIFIER_H_
#define CAIRN_CORE_RELEASE_RELEASE_VERIFIER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cairn/v1/manifest.pb.h"

namespace cairn {

// How thoroughly.
enum class VerifyDepth {
  // Every file against its signed SHA-256: no byte that was published differs.
  kFiles,
  // Also the release digest, recomputed from tensors, config and tokenizer:
  // that what was signed as evaluated is what these files hold. Hashes all
  // bytes once more.
  kTensors,
};

// What a directory was verified against.
struct VerifyOptions {
  // SHA-256 of the trusted root key, hex; empty trusts the document's own
  // root, which then only shows that the directory agrees with itself.
  std::string root_fingerprint;
  // Threads that hash.
  int threads = 2;
  VerifyDepth depth = VerifyDepth::kFiles;
};

// Verifies a pulled directory offline: cairn-release.json and its chain of
// signatures, that exactly the files it names are there, every file's size and
// SHA-256, and what else `depth` asks for. Returns the signed manifest.
// NOT_FOUND when there is no directory or no cairn-release.json; DATA_LOSS
// naming the file for anything that does not fit. Memory does not grow with the
// release.
absl::StatusOr<v1::ReleaseManifest> VerifyDirectory(
    const std::string& directory, const VerifyOptions& options);

}  // namespace cairn

#endif  // CAIRN_CORE_RELEASE_RELEASE_VERIFIER_H_
