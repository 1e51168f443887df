#ifndef CAIRN_MERGE_TRAIN_TRAINING_OUTPUT_H_
#define CAIRN_MERGE_TRAIN_TRAINING_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/checkpoint.h"
#include "merge/train/low_rank_tuning.h"

namespace cairn {

// The trained values of a tensor by name, in float32; empty for a tensor that
// was not trained.
using TrainedValues =
    std::function<absl::Span<const float>(absl::string_view name)>;

// Writes a checkpoint of base's tensors, dtypes and files into an existing
// directory: trained tensors rounded to their dtype, all others and the files
// a release may carry (config, tokenizer, ...) byte for byte.
absl::Status WriteTunedCheckpoint(const Checkpoint& base,
                                  const TrainedValues& trained,
                                  const std::string& directory);

// Writes a new model: config.json, the tokenizer files beside it, and
// model.safetensors with `tensors` in the order the format wants.
absl::Status WriteNewCheckpoint(const std::string& config_path,
                                const std::vector<TensorSpec>& tensors,
                                const TrainedValues& trained,
                                const std::string& directory);

// Writes a PEFT LoRA directory: adapter_config.json and
// adapter_model.safetensors in float32. `base_path` is what the adapter says
// its base is.
absl::Status WriteAdapter(const std::vector<LowRankTuning::Factors>& factors,
                          const LowRankOptions& options,
                          const std::vector<std::string>& targets,
                          const std::string& base_path,
                          const std::string& directory);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TRAINING_OUTPUT_H_
