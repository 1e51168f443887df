#ifndef CAIRN_MERGE_TRAIN_TRAINER_H_
#define CAIRN_MERGE_TRAIN_TRAINER_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "merge/train/adamw.h"
#include "merge/train/loss_gradient.h"
#include "merge/train/token_corpus.h"
#include "merge/train/tuning.h"

namespace cairn {

struct TrainerOptions {
  Schedule schedule = {};
  AdamWOptions optimizer = {};
  double norm_max = 1;  // of the gradient; 0: no limit
  int64_t batch = 8;    // windows a step
  int64_t window = 128;
  uint64_t seed = 0;
};

// Windows of step `step`, a pure function of its arguments. Streams keep the
// draws of training and of the Fisher estimate apart.
inline constexpr uint64_t kTrainingStream = 1;
inline constexpr uint64_t kFisherStream = 2;
LossGradient::Windows DrawWindows(const TokenCorpus& data,
                                  const TrainerOptions& options,
                                  uint64_t stream, int64_t step);

// Runs AdamW steps on a Tuning. What a step does depends on the options, the
// data, the step's number and the state only. Not thread-safe.
class Trainer {
 public:
  // All outlive the trainer.
  Trainer(Tuning& tuning, LossGradient& gradient, const TokenCorpus& data,
          const TrainerOptions& options);

  int64_t step() const { return step_; }  // steps done
  bool done() const { return step_ >= options_.schedule.steps; }

  // One step; returns its loss.
  absl::StatusOr<double> Step();

  // Writes the state of the run to a safetensors file, in one piece, marked
  // with `recipe`; and takes it up again. FAILED_PRECONDITION when the file is
  // of another recipe, DATA_LOSS when it is damaged.
  absl::Status Save(const std::string& path, const std::string& recipe);
  absl::Status Restore(const std::string& path, const std::string& recipe);

 private:
  const TrainerOptions options_;
  Tuning& tuning_;
  LossGradient& gradient_;
  const TokenCorpus& data_;
  AdamW optimizer_;
  std::vector<float> weight_gradient_;
  std::vector<float> value_gradient_;
  int64_t step_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TRAINER_H_
