#ifndef CAIRN_MERGE_ENGINE_WHOLE_MODEL_SCAN_H_
#define CAIRN_MERGE_ENGINE_WHOLE_MODEL_SCAN_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/method/whole_model.h"

namespace cairn {

// The task vectors of one tensor, read in order by one thread.
class TaskVectorReader {
 public:
  virtual ~TaskVectorReader() = default;
  // Elements [first, first + count) of every input that takes part; valid
  // until the next call.
  virtual absl::StatusOr<std::vector<const float*>> Read(int64_t first,
                                                         size_t count) = 0;
};

// All that a merge adds up: inputs, and tensors in a fixed order. Thread-safe.
class TaskVectors {
 public:
  virtual ~TaskVectors() = default;

  virtual size_t participants() const = 0;
  virtual size_t tensors() const = 0;
  virtual int64_t elements(size_t tensor) const = 0;
  // Who takes part in a tensor, in the order of the reader's values; all
  // others are zero there.
  virtual std::vector<size_t> ParticipantsOf(size_t tensor) const = 0;
  virtual absl::StatusOr<std::unique_ptr<TaskVectorReader>> Open(
      size_t tensor) const = 0;
};

struct ScanOptions {
  int threads = 1;
  int64_t tile_elements = 1 << 15;  // a multiple of 4096
  const std::atomic<bool>* is_cancelled = nullptr;
};

// Fills in the inner products, in one pass over all values. In double, in the
// order of the tensors: the same bits for every thread count and tile.
absl::Status GatherProducts(const TaskVectors& taus, const ScanOptions& options,
                            WholeModel& whole);

// Two participants whose cosine is above a limit.
struct Duplicate {
  size_t first = 0;
  size_t second = 0;
  std::string message;
};
// The first such pair; `name` is what a participant is called in the message.
std::optional<Duplicate> FindDuplicate(
    const WholeModel& whole, double limit,
    absl::FunctionRef<std::string(size_t participant)> name);

// Fills in the magnitude of each participant's element of rank
// `densities[i] x elements`, in two passes; 0 where fewer are not 0.
// `elements`: of the whole model, untouched ones included.
absl::Status GatherThresholds(const TaskVectors& taus,
                              const std::vector<double>& densities,
                              int64_t elements, const ScanOptions& options,
                              WholeModel& whole);

// Fills in the sign that most elements elect among what the thresholds keep.
absl::Status GatherMajority(const TaskVectors& taus, const ScanOptions& options,
                            WholeModel& whole);

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_WHOLE_MODEL_SCAN_H_
