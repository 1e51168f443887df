#ifndef CAIRN_CORE_UPDATE_CODED_UPDATE_WRITER_H_
#define CAIRN_CORE_UPDATE_CODED_UPDATE_WRITER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/safetensors.h"
#include "core/update/change_values.h"
#include "core/update/coded_layout.h"
#include "core/update/position_list.h"
#include "core/update/scratch_file.h"
#include "core/update/tensor_table.h"

namespace cairn {

// How the values of a part are kept; see ValuePacker.
struct PartValues {
  ValueForm form = ValueForm::kF32;
  int64_t group = 0;
  float scale = 0;  // of INT8, INT4 and signs without a group
};

// Writes a coded update (layout in README.md). What is added goes to unnamed
// files beside `path`, so that memory stays bounded. Not thread-safe. A
// destructor abandons what was not finished.
class CodedUpdateWriter {
 public:
  // `base_digest`: "sha256:..." of the base; `format`: of kCodedFormats;
  // `mask_digest`: "sha256:..." of the mask's file, empty for none.
  static absl::StatusOr<std::unique_ptr<CodedUpdateWriter>> Create(
      std::string path, std::string base_digest, const CodedFormat& format,
      std::string mask_digest = "");

  // Starts the change of one tensor; names come in ascending order. Its parts
  // follow in the order of PartKind, each with its values.
  absl::Status BeginTensor(const TensorSpec& tensor);
  // Both factors: [rows, rank], then [rank, columns].
  absl::Status AddProduct(int64_t rank, ValueForm form,
                          absl::Span<const float> left,
                          absl::Span<const float> right);
  // A value for every element: AddValues() until there is one.
  absl::Status BeginAll(const PartValues& values);
  // Values of listed elements: AddPositions() and AddValues(), or AddBytes() of
  // replacement values, in any pieces.
  absl::Status BeginListed(const PartValues& values);
  absl::Status AddPositions(absl::Span<const int64_t> positions);
  // Values of the `count` elements that the mask lists of this tensor.
  absl::Status BeginMasked(int64_t count, const PartValues& values);
  absl::Status AddValues(absl::Span<const float> values);
  absl::Status AddBytes(absl::Span<const char> values);
  // Takes over the tensor that was written to `part`, a writer of the same
  // format that then may begin any tensor: as if it were written here, so that
  // several can be made at once. Its name comes after those before.
  absl::Status Take(CodedUpdateWriter& part);
  // Writes the file; tensors and lists without values leave no trace in it.
  // FAILED_PRECONDITION when nothing was changed at all.
  absl::Status Finish() &&;

 private:
  CodedUpdateWriter(std::string path, std::string base_digest,
                    const CodedFormat& format, std::string mask_digest)
      : path_(std::move(path)),
        base_digest_(std::move(base_digest)),
        format_(format),
        mask_digest_(std::move(mask_digest)) {}

  absl::Status BeginPart(PartKind kind, const PartValues& values);
  // The part's numbers for the table, once its values are known.
  absl::Status EndPart();
  absl::Status EndTensor();
  // Notes what tensor_, parts_ and numbers_ say, and forgets them.
  void AddToTable(CodedUpdateWriter& part);
  absl::Status FlushValues();
  // A tensor of the file for each stream that has bytes.
  absl::Status WriteFile();

  const std::string path_;
  const std::string base_digest_;
  const CodedFormat format_;
  const std::string mask_digest_;
  std::unique_ptr<ScratchFile> positions_, values_, scales_, factors_;
  TensorTableWriter table_;

  // The tensor under way, and its part.
  TensorSpec tensor_;
  std::vector<int64_t> numbers_;  // of its parts, for the table
  int64_t parts_ = 0;
  std::optional<PartKind> part_;
  PartValues part_values_;
  std::optional<ValuePacker> packer_;
  std::optional<PositionListWriter> list_;
  int64_t positions_begin_ = 0;
  int64_t masked_ = 0;
  int64_t added_ = 0;                 // values
  std::string packed_, scale_bytes_;  // reused
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_CODED_UPDATE_WRITER_H_
