#ifndef CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_
#define CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"
#include "core/update/update.h"

namespace cairn {

// Reads a sparse update (layout in README.md). Every position is checked when
// it is opened, so that reading cannot meet a malformed one.
absl::StatusOr<std::unique_ptr<Update>> OpenSparseUpdate(
    SharedSource file, const SafetensorsHeader& header);

// Writes a sparse update. What is added goes to unnamed files beside `path`,
// so that memory stays bounded. Not thread-safe. A destructor abandons what
// was not finished.
class SparseUpdateWriter {
 public:
  // `base_digest`: "sha256:..." of the base.
  static absl::StatusOr<std::unique_ptr<SparseUpdateWriter>> Create(
      std::string path, std::string base_digest);
  ~SparseUpdateWriter();
  SparseUpdateWriter(const SparseUpdateWriter&) = delete;
  SparseUpdateWriter& operator=(const SparseUpdateWriter&) = delete;

  // Starts the changes of one tensor; names come in ascending order. The
  // dtype has whole bytes (UNIMPLEMENTED otherwise).
  absl::Status BeginTensor(const TensorSpec& tensor);
  // Adds changed elements of the tensor last begun: ascending positions in the
  // flattened tensor and the packed replacement values. May be repeated.
  absl::Status Add(absl::Span<const int64_t> positions,
                   absl::Span<const char> values);
  // Writes the file; tensors without changes leave no trace in it.
  // FAILED_PRECONDITION when nothing was changed at all.
  absl::Status Finish() &&;

 private:
  struct State;
  explicit SparseUpdateWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Bytes that the position `position` takes after `previous` (-1 before the
// first).
int SparseGapBytes(int64_t previous, int64_t position);

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_
