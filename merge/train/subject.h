#ifndef CAIRN_MERGE_TRAIN_SUBJECT_H_
#define CAIRN_MERGE_TRAIN_SUBJECT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/tensor/checkpoint.h"
#include "merge/model/model.h"
#include "merge/train/loss_gradient.h"
#include "merge/train/train_request.h"

namespace cairn {

// The model that a run trains, in memory in float32: read from a directory,
// or new, with matrices drawn from N(0, initializer_range) by the seed and
// norms at one.
class Subject {
 public:
  // Errors are those of opening a model: NOT_FOUND, DATA_LOSS, ...; see
  // merge/model.
  static absl::StatusOr<std::unique_ptr<Subject>> Load(
      const TrainRequest& request);

  const LanguageModel& model() const { return *model_->language(); }
  // Null for a new model.
  const Checkpoint* checkpoint() const {
    return checkpoint_.has_value() ? &*checkpoint_ : nullptr;
  }
  // Name, shape and the dtype that each is stored in.
  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  int64_t parameters() const;
  // "sha256:" + hex: the release digest of the directory, or the digest of a
  // new model's config.json.
  const std::string& digest() const { return digest_; }

  // What the method of `request` differentiates by: all weights (full), the
  // targets (lora), or every matrix, embeddings and head only on demand
  // (sparse).
  std::vector<TunedWeight> WeightsToTune(const TrainRequest& request) const;

  // Valid while this lives.
  ForwardFunction forward() const;

 private:
  Subject() = default;

  absl::Status LoadCheckpoint(const std::string& directory, int threads);
  absl::Status MakeNew(const std::string& config_path, uint64_t seed);

  std::optional<Checkpoint> checkpoint_;
  std::vector<TensorSpec> tensors_;
  std::string digest_;
  std::unique_ptr<Model> model_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_TRAIN_SUBJECT_H_
