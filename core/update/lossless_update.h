#ifndef CAIRN_CORE_UPDATE_LOSSLESS_UPDATE_H_
#define CAIRN_CORE_UPDATE_LOSSLESS_UPDATE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/codec/delta_codec.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/scratch_file.h"
#include "core/update/tensor_table.h"
#include "core/update/update.h"

namespace cairn {

// Elements of a block of a dense update's second version.
inline constexpr int64_t kLosslessBlock = 1 << 16;

// Opens a dense update of the second version: whole tensors as their lossless
// change against the base (layout in README.md), which reading therefore
// needs. Lengths are checked when it is opened, coded blocks when they are
// read, with their base: MALFORMED_FILE then. It holds 8 bytes for 64 blocks.
absl::StatusOr<std::unique_ptr<Update>> OpenLosslessUpdate(
    SharedSource file, const SafetensorsHeader& header);

// Writes such an update. What is added goes to unnamed files beside `path`. Not
// thread-safe. A destructor abandons what was not finished.
class LosslessUpdateWriter {
 public:
  static absl::StatusOr<std::unique_ptr<LosslessUpdateWriter>> Create(
      std::string path, std::string base_digest);

  // Starts a tensor; names come in ascending order. Its blocks follow.
  absl::Status BeginTensor(const TensorSpec& tensor);
  // The next kLosslessBlock elements, or the last ones: packed bytes of base
  // and tuned.
  absl::Status AddBlock(absl::Span<const char> base,
                        absl::Span<const char> tuned);
  // Takes over the tensor that was written to `part`, which then may begin any
  // tensor: as if it were written here, so that several can be made at once.
  // Its name comes after those before.
  absl::Status Take(LosslessUpdateWriter& part);
  absl::Status Finish() &&;

 private:
  // Notes the tensor under way, if there is one, which has all its blocks.
  absl::Status EndTensor();
  LosslessUpdateWriter(std::string path, std::string base_digest)
      : path_(std::move(path)), base_digest_(std::move(base_digest)) {}

  const std::string path_;
  const std::string base_digest_;
  std::unique_ptr<ScratchFile> lengths_, blocks_;
  TensorTableWriter table_;
  TensorSpec tensor_;  // under way
  int64_t left_ = 0;   // elements of it
  DeltaEncoder encoder_;
  std::string coded_;  // reused
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_LOSSLESS_UPDATE_H_
