#ifndef CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_
#define CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/v1/manifest.pb.h"

namespace cairn {

// merge-record.json of a local merge: where its inputs were found and what
// makes them the same again.
struct MergeRecordFile {
  struct Adapter {
    std::string path;
    double weight = 1.0;
  };

  std::string base;
  std::vector<Adapter> adapters;
  v1::MergeRecord record;

  // DATA_LOSS when the file is not a merge record.
  static absl::StatusOr<MergeRecordFile> Read(const std::string& path);
  absl::Status Write(const std::string& path) const;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_CLI_MERGE_RECORD_FILE_H_
