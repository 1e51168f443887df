#ifndef CAIRN_MERGE_COMPRESS_CHANGE_COMPARISON_H_
#define CAIRN_MERGE_COMPRESS_CHANGE_COMPARISON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "core/tensor/safetensors.h"
#include "merge/delta/update_delta.h"

namespace cairn {

// Two tensors of one shape beside each other: changes of one base, or weights.
struct TensorComparison {
  int64_t elements = 0;
  int64_t differing = 0;  // elements that are not equal
  int64_t both = 0;       // not 0 in either
  int64_t opposed = 0;    // of those, with different signs
  double norm_a = 0;      // Frobenius
  double norm_b = 0;
  double norm_difference = 0;
  double product = 0;
  // Of the spaces of the leading left and right singular directions, how much
  // they share: |U_a^T U_b|^2 over the smaller dimension, the mean of both
  // sides; 1 for the same space. None for what is no matrix or was not asked.
  std::optional<double> overlap = std::nullopt;

  double differing_share() const { return Share(differing, elements); }
  double opposed_share() const { return Share(opposed, both); }
  double cosine() const {
    return norm_a > 0 && norm_b > 0 ? product / (norm_a * norm_b) : 0;
  }
  static double Share(int64_t part, int64_t whole) {
    return whole == 0 ? 0
                      : static_cast<double>(part) / static_cast<double>(whole);
  }
};

// Reads both once; and for the overlap of `directions` (0: not asked) of
// matrices, which FitLowRank() finds, six times more each.
absl::StatusOr<TensorComparison> CompareTensors(const TensorDelta& a,
                                                const TensorDelta& b,
                                                const TensorSpec& tensor,
                                                int64_t directions);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_CHANGE_COMPARISON_H_
