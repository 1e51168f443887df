#ifndef CAIRN_MERGE_COMPRESS_CHANGE_REPORT_H_
#define CAIRN_MERGE_COMPRESS_CHANGE_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/checkpoint.h"
#include "core/update/update.h"
#include "merge/compress/change_source.h"

namespace cairn {

// How an update tells the change of one tensor.
struct TensorFidelity {
  std::string tensor;
  int64_t elements = 0;
  int64_t changed = 0;   // of the change itself
  int64_t kept = 0;      // not 0 in the update
  double norm = 0;       // Frobenius, of the change
  double error = 0;      // of the difference of update and change
  double kept_norm = 0;  // of what the update gives
  double product = 0;    // of the two

  // |update - change| / |change|; 1 for a tensor that is left out.
  double relative_error() const { return norm > 0 ? error / norm : 0; }
  double cosine() const {
    return norm > 0 && kept_norm > 0 ? product / (norm * kept_norm) : 0;
  }
};

// Holds every tensor of the source that changed against what the update gives
// when it is read, on `threads` threads; the worst first.
absl::StatusOr<std::vector<TensorFidelity>> MeasureFidelity(
    const ChangeSource& source, const Update& update, const Checkpoint& base,
    int threads);

}  // namespace cairn

#endif  // CAIRN_MERGE_COMPRESS_CHANGE_REPORT_H_
