#ifndef CAIRN_CORE_RELEASE_FILE_POLICY_H_
#define CAIRN_CORE_RELEASE_FILE_POLICY_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace cairn {

inline constexpr char kReleaseDocumentFile[] = "cairn-release.json";
// A model as code: only from maintainers, and only where the policy of the
// model has `torchscript: true`.
inline constexpr char kTorchScriptFile[] = "torchscript.pt";

// OK for a relative path with forward slashes, without empty, "." and ".."
// segments, control characters or backslashes, at most 255 bytes.
// INVALID_ARGUMENT with reason FORBIDDEN_FILE otherwise.
absl::Status CheckRelativePath(absl::string_view path);

// OK for a file that a release may carry: config, generation config,
// tokenizer, safetensors with index, README, licence, and torchscript.pt, which
// the hub takes by the policy. INVALID_ARGUMENT with reason FORBIDDEN_FILE
// otherwise: code, pickles and anything else. The hub refuses; the CLI leaves
// such files out and says so.
absl::Status CheckReleaseFile(absl::string_view path);

// OK when a config.json asks for no code to be run (no "auto_map").
// INVALID_ARGUMENT with reason FORBIDDEN_FILE, or MALFORMED_FILE when it is
// not a JSON object.
absl::Status CheckConfig(absl::string_view text, absl::string_view label);

// OK for the id of a model, suite, user...: lower-case letters, digits, '-',
// '_' and '.', beginning with a letter or digit, at most 64.
// INVALID_ARGUMENT otherwise; `what` says what it names.
absl::Status CheckResourceId(absl::string_view id, absl::string_view what);

}  // namespace cairn

#endif  // CAIRN_CORE_RELEASE_FILE_POLICY_H_
