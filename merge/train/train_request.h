#ifndef CAIRN_MERGE_TRAIN_TRAIN_REQUEST_H_
#define CAIRN_MERGE_TRAIN_TRAIN_REQUEST_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cairn/v1/manifest.pb.h"
#include "merge/train/low_rank_tuning.h"
#include "merge/train/token_corpus.h"
#include "merge/train/trainer.h"

namespace cairn {

enum class TuningMethod { kLora, kSparse, kFull };

// A run of training, as asked for. All but `threads`, `out`, `tuned_out` and
// `checkpoint_interval` is what the result depends on.
struct TrainRequest {
  // One of the two: a Hugging Face directory to start from, or the config.json
  // of a model to start at random (method full only).
  std::string model;
  std::string init_config;

  std::vector<DataFile> data = {};
  TuningMethod method = TuningMethod::kLora;
  TrainerOptions trainer = {};
  // Modules that LoRA adapts, by the last part of their names.
  std::vector<std::string> targets = {"q_proj",   "k_proj",    "v_proj",
                                      "o_proj",   "gate_proj", "up_proj",
                                      "down_proj"};
  LowRankOptions low_rank = {};  // its seed is the trainer's
  // Sparse: share of the model's parameters that is trained, and the batches
  // that the Fisher estimate takes.
  double density = 0.005;
  int64_t fisher_batches = 16;
  // Sparse: whether embeddings and head may be trained as well.
  bool train_embeddings = false;

  int threads = 1;
  std::string out;
  std::string tuned_out;  // sparse: also write the tuned checkpoint here
  absl::Duration checkpoint_interval = absl::Seconds(10);
};

// "lora", "sparse", "full".
const char* MethodName(TuningMethod method);

// What a contribution's manifest says about the run: seed, data digest, code
// and framework versions, and every hyper-parameter that bears on the result.
// `base` is the digest of the model (or new model's config) started from.
v1::Recipe MakeRecipe(const TrainRequest& request,
                      const std::string& data_digest, const std::string& base);

// The recipe as proto3 JSON, the same bytes for the same recipe.
std::string RecipeJson(const v1::Recipe& recipe);

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_TRAIN_REQUEST_H_
