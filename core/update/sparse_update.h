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

// Writes a sparse update. What is added is kept in temporary files beside
// `path`, so that memory stays bounded. Not thread-safe.
class SparseUpdateWriter {
 public:
  // `base_digest`: "sha256:..." of the base.
  static absl::StatusOr<std::unique_ptr<SparseUpdateWriter>> Create(
      std::string path, std::string base_digest);
  // Removes what was not finished.
  virtual ~SparseUpdateWriter() = default;

  // Starts the changes of one tensor; names come in ascending order. The
  // dtype has whole bytes.
  virtual absl::Status BeginTensor(const TensorSpec& tensor) = 0;
  // Adds changed elements of the tensor last begun: ascending positions in the
  // flattened tensor and the packed replacement values. May be repeated.
  virtual absl::Status Add(absl::Span<const int64_t> positions,
                           absl::Span<const char> values) = 0;
  // Bytes the file would have now, to within its header's padding.
  virtual int64_t size_bytes() const = 0;
  // Writes the file; tensors without changes leave no trace in it.
  // FAILED_PRECONDITION when nothing was changed at all.
  virtual absl::Status Finish() && = 0;
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_SPARSE_UPDATE_H_
