#ifndef CAIRN_MERGE_ENGINE_MODEL_SOURCE_H_
#define CAIRN_MERGE_ENGINE_MODEL_SOURCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/checkpoint.h"
#include "core/update/tensor_effect.h"

namespace cairn {

// A tensor that a model offers.
struct SourceTensor {
  TensorSpec spec;
  // Where its bytes are; null for one that only the adapters bring, or that is
  // yet to be made.
  const CheckpointTensor* stored = nullptr;
  // What is done to it; null: nothing.
  std::shared_ptr<const TensorEffect> effect;

  // Whether its elements are those of the file.
  bool is_as_stored() const { return stored != nullptr && effect == nullptr; }
  // How its elements are handed to a device: as they are stored, or as numbers
  // where they first have to be made.
  DType slot_dtype() const { return is_as_stored() ? spec.dtype : DType::kF32; }
  // The tensor with its effect in memory, for who reads much of it.
  absl::StatusOr<SourceTensor> Loaded() const;
};

// What is added to a model's tensors: changes of existing ones, tensors of
// another shape in their place, and new ones.
struct ModelEffects {
  std::map<std::string, std::shared_ptr<const TensorEffect>> effects;
  // Tensors that are new or have another shape; each has an effect, which
  // then fills values from nothing.
  std::vector<TensorSpec> added;
  // Digest of what they were made from.
  std::string digest;
};

// A model as the merge reads it: tensors as numbers, whatever the files.
// Thread-safe once it is attached.
class ModelSource {
 public:
  // A model that is there.
  static absl::StatusOr<ModelSource> Open(std::string label,
                                          std::shared_ptr<Checkpoint> model);
  // One that will be: known by its tensors, its configuration and the files
  // beside them.
  static ModelSource Planned(std::string label, std::vector<TensorSpec> tensors,
                             std::string config_json, FileMap files = {});

  // The files of a planned model, now that they are there. Tensors that
  // effects replaced stay replaced.
  absl::Status Attach(std::shared_ptr<Checkpoint> model);
  absl::Status AddEffects(ModelEffects effects);

  const std::string& label() const { return label_; }
  const std::string& config_json() const { return config_json_; }
  // By relative path, as far as they are known.
  const FileMap& files() const {
    return checkpoint_ != nullptr ? checkpoint_->files() : files_;
  }
  // Of what was added to the files; empty when nothing was.
  const std::string& effects_digest() const { return effects_digest_; }
  // Null for a planned model.
  const Checkpoint* checkpoint() const { return checkpoint_.get(); }
  const std::map<std::string, SourceTensor>& tensors() const {
    return tensors_;
  }
  const SourceTensor* Find(const std::string& name) const;

  // Elements of a floating-point tensor from `first` on. `raw` is a buffer to
  // use; what was read of the file is left in it.
  absl::Status Read(const SourceTensor& tensor, int64_t first,
                    absl::Span<float> out, std::vector<char>& raw) const;

  // The bytes of elements from `first` on of a tensor that is there.
  absl::Status ReadRaw(const SourceTensor& tensor, int64_t first,
                       absl::Span<char> out) const;

  // A number for the model's content that does not depend on how it is cut
  // into files, from its headers and samples of every tensor.
  absl::StatusOr<uint64_t> SampleContent() const;

 private:
  std::string label_;
  std::string config_json_;
  std::string effects_digest_;
  FileMap files_;                           // of a planned model
  std::shared_ptr<Checkpoint> checkpoint_;  // adapters' effects share it
  std::map<std::string, SourceTensor> tensors_;
};

}  // namespace cairn

#endif  // CAIRN_MERGE_ENGINE_MODEL_SOURCE_H_
