#ifndef CAIRN_MERGE_ENGINE_CHECKPOINT_WRITER_H_
#define CAIRN_MERGE_ENGINE_CHECKPOINT_WRITER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/checkpoint.h"

namespace cairn {

// Writes a checkpoint that is another one with some tensors replaced: the
// same files, headers and layout. Files that a release may carry come along
// (configuration, tokenizer, licence); code, pickles and the like do not.
class CheckpointWriter {
 public:
  // Makes the files in `directory`, which exists, and copies everything but
  // the tensors in `replaced`.
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> Create(
      const Checkpoint& original, const std::string& directory,
      const absl::flat_hash_set<std::string>& replaced);
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Writes packed bytes of a tensor of the original. Thread-safe.
  absl::Status Write(const CheckpointTensor& tensor, int64_t offset,
                     absl::Span<const char> bytes);
  // Makes all files durable.
  absl::Status Finish() &&;

 private:
  CheckpointWriter() = default;
  absl::Status AddFile(const Checkpoint& original, const std::string& path,
                       const std::string& directory,
                       const absl::flat_hash_set<std::string>& replaced);

  std::map<std::string, int> files_;  // open descriptors
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_CHECKPOINT_WRITER_H_
