#ifndef CAIRN_CORE_UPDATE_POSITION_MASK_H_
#define CAIRN_CORE_UPDATE_POSITION_MASK_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/codec/position_codec.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/position_list.h"
#include "core/update/scratch_file.h"
#include "core/update/tensor_table.h"

namespace cairn {

// Which elements of a model some updates change, once for all of them: a file
// beside each update, which names it by digest and carries values only. Holds
// 16 bytes for 8,192 positions.
class PositionMask {
 public:
  struct Tensor {
    TensorSpec spec;  // as in the base
    // Shared with the updates that it is for, which may outlive the mask.
    std::shared_ptr<const PositionList> positions;
  };

  // Opens cairn-mask.safetensors and checks all of it (layout in README.md).
  // INVALID_ARGUMENT with reason MALFORMED_FILE, UNKNOWN_FORMAT or
  // LIMIT_EXCEEDED; the message names file and tensor.
  static absl::StatusOr<PositionMask> Open(SharedSource file);

  // Sorted by name.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  // Null when it lists nothing of that tensor.
  const Tensor* Find(absl::string_view name) const;

 private:
  std::vector<Tensor> tensors_;
};

// Writes a mask. Not thread-safe. A destructor abandons what was not finished.
class PositionMaskWriter {
 public:
  static absl::StatusOr<std::unique_ptr<PositionMaskWriter>> Create(
      std::string path);

  // Starts a tensor; names come in ascending order.
  absl::Status BeginTensor(const TensorSpec& tensor);
  // Ascending positions, in any pieces.
  absl::Status Add(absl::Span<const int64_t> positions);
  // FAILED_PRECONDITION when nothing is listed.
  absl::Status Finish() &&;

 private:
  explicit PositionMaskWriter(std::string path) : path_(std::move(path)) {}
  absl::Status EndTensor();

  const std::string path_;
  std::unique_ptr<ScratchFile> positions_;
  std::optional<PositionListWriter> list_;
  TensorSpec tensor_;
  int64_t begin_ = 0;
  TensorTableWriter table_;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_POSITION_MASK_H_
