#ifndef CAIRN_CORE_TENSOR_CHECKPOINT_H_
#define CAIRN_CORE_TENSOR_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {

// A tensor of a checkpoint and the file that holds it.
struct CheckpointTensor : TensorEntry {
  std::string file;
};

// A Hugging Face checkpoint: model.safetensors, or shards named by
// model.safetensors.index.json, beside config.json and other files. Opening
// reads and checks headers only. Errors are INVALID_ARGUMENT with reason
// MALFORMED_FILE (a broken file, a shard that the index names and that is
// missing, a tensor in two shards or in another than the index says),
// LIMIT_EXCEEDED or FORBIDDEN_FILE (a path in the index that leaves the
// directory). The index's total_size is advice and not checked. Thread-safe.
class Checkpoint {
 public:
  // From files by relative path. NOT_FOUND without safetensors files.
  static absl::StatusOr<Checkpoint> Open(FileMap files);
  static absl::StatusOr<Checkpoint> OpenDirectory(const std::string& directory);

  // Sorted by name.
  const std::vector<CheckpointTensor>& tensors() const { return tensors_; }
  // Null when there is none. Valid while this checkpoint lives.
  const CheckpointTensor* Find(absl::string_view name) const;
  // Bytes of all tensors.
  int64_t tensor_bytes() const;
  // All files it was opened from.
  const FileMap& files() const { return files_; }
  // The safetensors files in use, sorted by path, and their headers.
  const std::map<std::string, SafetensorsHeader>& headers() const {
    return headers_;
  }
  // The text of config.json; empty when there is none.
  const std::string& config_json() const { return config_json_; }

  // The tensor's packed bytes as a source. NOT_FOUND when there is none.
  absl::StatusOr<std::unique_ptr<ByteSource>> OpenTensor(
      absl::string_view name) const;
  // Packed bytes of a tensor from `offset` on.
  absl::Status ReadBytes(absl::string_view name, int64_t offset,
                         absl::Span<char> out) const;
  // Elements of a tensor of a numeric dtype from `first` on, as numbers.
  // DTYPE_MISMATCH for other dtypes.
  absl::Status ReadFloats(absl::string_view name, int64_t first,
                          absl::Span<float> out) const;

 private:
  FileMap files_;
  std::map<std::string, SafetensorsHeader> headers_;
  std::vector<CheckpointTensor> tensors_;
  std::string config_json_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_TENSOR_CHECKPOINT_H_
