#ifndef CAIRN_MERGE_TRAIN_TRAINING_RUN_H_
#define CAIRN_MERGE_TRAIN_TRAINING_RUN_H_

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>

#include "absl/status/statusor.h"
#include "merge/train/train_request.h"

namespace cairn {

struct TrainProgress {
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0;               // smoothed
  double tokens_per_second = 0;  // of this process
};

struct TrainReport {
  std::string out;
  int64_t steps = 0;
  int64_t trained_parameters = 0;
  int64_t model_parameters = 0;
  int64_t size_bytes = 0;  // of the files written, recipe included
  double loss = 0;         // smoothed, at the end
  double seconds = 0;      // of this process
};

// Trains as `request` says and writes request.out: a Hugging Face directory
// (full), a PEFT directory (lora) or a directory with cairn-update.safetensors
// (sparse), with recipe.json beside. Until it is whole it is called
// OUT.partial and holds the run's state every `checkpoint_interval`; the same
// request goes on from there, after a crash too, and ends with the same bytes.
// Result and state do not depend on the number of threads.
//
// CANCELLED when stopped, state saved. FAILED_PRECONDITION when OUT is there
// and not empty, or OUT.partial belongs to another request. NOT_FOUND,
// INVALID_ARGUMENT, DATA_LOSS for inputs, naming file and what would be right.
absl::StatusOr<TrainReport> RunTraining(
    const TrainRequest& request, std::stop_token stop,
    const std::function<void(const TrainProgress&)>& progress);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TRAINING_RUN_H_
