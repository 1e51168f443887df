#ifndef CAIRN_CORE_UPDATE_UPDATE_STATISTICS_H_
#define CAIRN_CORE_UPDATE_UPDATE_STATISTICS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "cairn/v1/common.pb.h"
#include "core/tensor/byte_source.h"
#include "core/tensor/safetensors.h"

namespace cairn {

inline constexpr char kStatisticsFile[] = "cairn-statistics.safetensors";

// What a contributor measured besides the update: diagonals of the Fisher
// information of tensors, and Gram matrices of what layers got as input. The
// layout is in README.md. Opening checks everything that needs no base, but
// for the values. Thread-safe; holds the file open.
class UpdateStatistics {
 public:
  // INVALID_ARGUMENT with reason UNKNOWN_FORMAT, MALFORMED_FILE,
  // DTYPE_MISMATCH, SHAPE_MISMATCH or LIMIT_EXCEEDED, naming tensor and field.
  static absl::StatusOr<std::unique_ptr<UpdateStatistics>> Open(
      SharedSource file);

  // `base_digest`: empty when it is not known. UNKNOWN_TENSOR, SHAPE_MISMATCH
  // (a diagonal of another shape than the
  // base's tensor, a Gram matrix that fits neither side of it) or
  // BASE_DIGEST_MISMATCH.
  absl::Status CheckAgainstBase(const v1::TensorManifest& base,
                                absl::string_view base_digest) const;
  // Reads every value. NON_FINITE naming the tensor for a NaN or an infinity;
  // MALFORMED_FILE for a diagonal with a value below 0.
  absl::Status CheckValues() const;

  bool HasFisher(absl::string_view tensor) const;
  // Elements of a tensor's diagonal from `first` on, of the shape that
  // CheckAgainstBase() was told: `columns` are the elements of a row.
  absl::Status ReadFisher(absl::string_view tensor, int64_t first,
                          int64_t columns, absl::Span<float> out) const;

  // Rows of the Gram matrix of a tensor's inputs; none: there is none.
  std::optional<int64_t> GramSize(absl::string_view tensor) const;
  // Its lower half, row after row.
  absl::StatusOr<std::vector<float>> ReadGram(absl::string_view tensor) const;

 private:
  // A diagonal: every element, or the sums of rows and columns.
  struct Fisher {
    std::optional<TensorEntry> whole = {};
    std::optional<TensorEntry> rows = {};
    std::optional<TensorEntry> columns = {};
    double total = 0;  // of `columns`
  };
  struct Gram {
    TensorEntry entry;  // the lower half, row after row
    int64_t size = 0;
  };

  explicit UpdateStatistics(SharedSource file) : file_(std::move(file)) {}
  absl::Status AddTensor(const TensorEntry& entry);
  absl::Status ReadGrams(const std::string& json);
  absl::Status Finish();
  absl::Status Read(const TensorEntry& entry, int64_t first,
                    absl::Span<float> out) const;

  const SharedSource file_;
  std::string base_digest_;
  std::vector<TensorEntry> entries_;
  std::map<std::string, Fisher, std::less<>> fishers_;
  std::map<std::string, Gram, std::less<>> grams_;  // by id
  std::map<std::string, std::string, std::less<>> gram_of_;  // tensor -> id
};

}  // namespace cairn

#endif  // CAIRN_CORE_UPDATE_UPDATE_STATISTICS_H_
