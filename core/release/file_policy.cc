#include "core/release/file_policy.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"

namespace cairn {
namespace {

constexpr size_t kPathBytesMax = 255;
constexpr size_t kResourceIdBytesMax = 64;

// Files that describe a model or turn its input into tokens.
constexpr std::array<const char*, 19> kPlainFiles = {
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors.index.json",
    "preprocessor_config.json",
    "processor_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    kTorchScriptFile,
    "vocab.json",
    "vocab.txt",
};

absl::Status Forbidden(absl::string_view path, absl::string_view why) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
      absl::StrCat(JsonQuote(path.substr(0, kPathBytesMax)), " ", why),
      {{"file", std::string(path.substr(0, kPathBytesMax))}});
}

bool IsLicense(absl::string_view path) {
  if (!absl::StartsWith(path, "LICENSE") && !absl::StartsWith(path, "NOTICE")) {
    return false;
  }
  size_t dot = path.rfind('.');
  return dot == absl::string_view::npos || path.substr(dot) == ".txt" ||
         path.substr(dot) == ".md";
}

}  // namespace

absl::Status CheckRelativePath(absl::string_view path) {
  if (path.empty() || path.size() > kPathBytesMax) {
    return Forbidden(
        path, absl::StrCat("has ", path.size(), " bytes; a path has 1 to ",
                           kPathBytesMax));
  }
  for (char c : path) {
    if (absl::ascii_iscntrl(static_cast<unsigned char>(c)) || c == '\\') {
      return Forbidden(path, "has a control character or backslash in it");
    }
  }
  for (absl::string_view segment : absl::StrSplit(path, '/')) {
    if (segment.empty() || segment == "." || segment == "..") {
      return Forbidden(path,
                       "must be a relative path without empty, \".\" and "
                       "\"..\" segments");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckReleaseFile(absl::string_view path) {
  CAIRN_RETURN_IF_ERROR(CheckRelativePath(path));
  if (absl::StrContains(path, "/")) {
    return Forbidden(path,
                     "lies in a sub-directory; a release's files lie side by "
                     "side");
  }
  const bool is_plain =
      std::any_of(kPlainFiles.begin(), kPlainFiles.end(),
                  [&](const char* name) { return path == name; });
  if (is_plain || IsLicense(path) ||
      (absl::EndsWith(path, ".safetensors") && path != ".safetensors")) {
    return absl::OkStatus();
  }
  return Forbidden(path,
                   "may not be part of a release: only config, generation "
                   "config, tokenizer, safetensors, README.md and licence "
                   "files are");
}

absl::Status CheckConfig(absl::string_view text, absl::string_view label) {
  CAIRN_ASSIGN_OR_RETURN(JsonValue root, JsonValue::Parse(text, label));
  if (root.as_object() == nullptr) {
    return ReasonedError(absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
                         absl::StrCat(label, ": is ", root.type_text(),
                                      "; it must be a JSON object"),
                         {{"file", std::string(label)}});
  }
  if (root.Find("auto_map") == nullptr) return absl::OkStatus();
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "FORBIDDEN_FILE",
      absl::StrCat(label,
                   ": key \"auto_map\" asks for code to be run; remove it"),
      {{"file", std::string(label)}, {"field", "auto_map"}});
}

absl::Status CheckResourceId(absl::string_view id, absl::string_view what) {
  bool is_plain = !id.empty() && id.size() <= kResourceIdBytesMax &&
                  (absl::ascii_islower(static_cast<unsigned char>(id[0])) ||
                   absl::ascii_isdigit(static_cast<unsigned char>(id[0])));
  for (char c : id) {
    is_plain =
        is_plain && (absl::ascii_islower(static_cast<unsigned char>(c)) ||
                     absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
                     c == '-' || c == '_' || c == '.');
  }
  if (is_plain) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      what, " ", JsonQuote(id.substr(0, 100)),
      " is not a valid name: use lower-case letters, digits, '-', '_' and "
      "'.', beginning with a letter or digit, at most ",
      kResourceIdBytesMax));
}

}  // namespace cairn
