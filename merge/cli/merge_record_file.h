#ifndef CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_
#define CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace cairn {

// What a local merge was asked to do.
struct MergeOrder {
  struct Adapter {
    std::string path;
    double weight = 1.0;
  };

  // Either a recipe's text and the label of its file ...
  std::string recipe;
  std::string recipe_label;
  // ... or a base and adapters.
  std::string base;
  std::vector<Adapter> adapters;
  // "" (the recipe is read strictly), "mergekit", "peft" or "paper".
  std::string profile;
  uint64_t seed = 0;
  // Where relative paths begin.
  std::string directory;
};

// merge-record.json: all that is needed to repeat a merge and to see whether
// it came out the same.
struct MergeRecordFile {
  struct Input {
    std::string model;    // as it was named
    std::string content;  // a hash of what was read of it
  };

  MergeOrder order;
  std::string code_version;
  std::vector<Input> inputs;
  std::map<std::string, std::string> tensors;  // SHA-256 of each result
  std::string digest;                          // of the result

  // DATA_LOSS when the file or the text is no such record; `label` names it.
  static absl::StatusOr<MergeRecordFile> Read(const std::string& path);
  static absl::StatusOr<MergeRecordFile> Parse(absl::string_view text,
                                               absl::string_view label);
  absl::Status Write(const std::string& path) const;
  std::string Text() const;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_
