#ifndef CAIRN_MERGE_EVAL_SUITE_H_
#define CAIRN_MERGE_EVAL_SUITE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/suite/text_rules.h"
#include "core/tensor/byte_source.h"

namespace cairn {

// What suite.yaml says. Unknown keys, splits, kinds and metrics are errors:
// DATA_LOSS with reason MALFORMED_FILE, naming suite.yaml and the key.
struct SuiteDescription {
  std::string name;
  std::string kind;    // "perplexity", "multiple_choice", ...
  std::string metric;  // one that the kind has
  bool higher_is_better = false;
  std::string description;
  std::string license;
  // File, relative to the suite's directory, by split: search, gate, audit.
  std::map<std::string, std::string, std::less<>> splits;
  // File with the prompts of a zero-shot suite's classes; empty: none.
  std::string classes;
  // Tokens before an unconditional choice; none: the model's.
  std::optional<std::vector<int64_t>> prefix_ids;
  // Between a context and a choice that are texts.
  std::string target_delimiter = " ";
  // How generated texts are compared; not set: by token ids.
  TextRules text_rules;

  static absl::StatusOr<SuiteDescription> Parse(absl::string_view yaml);

  // `wanted`; when that is empty the only split, else "search".
  // INVALID_ARGUMENT when the suite has no such split.
  absl::StatusOr<std::string> ChooseSplit(absl::string_view wanted) const;
};

// A suite's directory.
struct Suite {
  SuiteDescription description;
  FileMap files;

  // NOT_FOUND when there is no suite.yaml among the files, or no directory.
  static absl::StatusOr<Suite> Open(FileMap files);
  static absl::StatusOr<Suite> OpenDirectory(const std::string& directory);
};

// Whether a path names a file in the suite's directory or below it.
bool IsInsideSuite(absl::string_view path);

// A DATA_LOSS status with reason MALFORMED_FILE about `file` of a suite.
absl::Status DamagedSuite(absl::string_view file, absl::string_view message);

}  // namespace cairn

#endif  // CAIRN_MERGE_EVAL_SUITE_H_
