#include "merge/compress/change_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "core/update/checkpoint_delta.h"
#include "core/update/replacement_update.h"
#include "merge/engine/model_source.h"
#include "merge/peft/adapter_effects.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 15;
constexpr int64_t kTileBytes = 1 << 20;

class CheckpointTensorDelta : public TensorDelta {
 public:
  CheckpointTensorDelta(const Checkpoint& base, const Checkpoint& tuned,
                        std::string tensor)
      : base_(base), tuned_(tuned), tensor_(std::move(tensor)) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::vector<float> before;
    while (!out.empty()) {
      const size_t n = std::min<size_t>(out.size(), kTileElements);
      const absl::Span<float> tile = out.subspan(0, n);
      before.resize(n);
      CAIRN_RETURN_IF_ERROR(
          base_.ReadFloats(tensor_, first, absl::MakeSpan(before)));
      CAIRN_RETURN_IF_ERROR(tuned_.ReadFloats(tensor_, first, tile));
      for (size_t i = 0; i < n; ++i) tile[i] -= before[i];
      first += static_cast<int64_t>(n);
      out.remove_prefix(n);
    }
    return absl::OkStatus();
  }

 private:
  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const std::string tensor_;
};

class CheckpointChange : public ChangeSource {
 public:
  CheckpointChange(const Checkpoint& base, const Checkpoint& tuned,
                   std::vector<TensorSpec> tensors)
      : base_(base), tuned_(tuned), tensors_(std::move(tensors)) {}

  const std::vector<TensorSpec>& tensors() const override { return tensors_; }
  absl::StatusOr<std::unique_ptr<TensorDelta>> Open(
      const TensorSpec& tensor) const override {
    return std::make_unique<CheckpointTensorDelta>(base_, tuned_, tensor.name);
  }

 private:
  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const std::vector<TensorSpec> tensors_;
};

class WeightReader : public TensorDelta {
 public:
  WeightReader(const Checkpoint& checkpoint, std::string tensor)
      : checkpoint_(checkpoint), tensor_(std::move(tensor)) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    return checkpoint_.ReadFloats(tensor_, first, out);
  }

 private:
  const Checkpoint& checkpoint_;
  const std::string tensor_;
};

class Weights : public ChangeSource {
 public:
  explicit Weights(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {
    for (const CheckpointTensor& tensor : checkpoint.tensors()) {
      if (IsNumeric(tensor.dtype)) tensors_.push_back(tensor);
    }
  }

  const std::vector<TensorSpec>& tensors() const override { return tensors_; }
  absl::StatusOr<std::unique_ptr<TensorDelta>> Open(
      const TensorSpec& tensor) const override {
    return std::make_unique<WeightReader>(checkpoint_, tensor.name);
  }

 private:
  const Checkpoint& checkpoint_;
  std::vector<TensorSpec> tensors_;
};

absl::StatusOr<bool> IsSame(const Checkpoint& a, const Checkpoint& b,
                            const CheckpointTensor& tensor) {
  std::string left, right;
  const int64_t size = tensor.end - tensor.begin;
  for (int64_t offset = 0; offset < size; offset += kTileBytes) {
    left.resize(static_cast<size_t>(std::min(kTileBytes, size - offset)));
    right.resize(left.size());
    CAIRN_RETURN_IF_ERROR(a.ReadBytes(tensor.name, offset,
                                      absl::MakeSpan(&left[0], left.size())));
    CAIRN_RETURN_IF_ERROR(b.ReadBytes(tensor.name, offset,
                                      absl::MakeSpan(&right[0], right.size())));
    if (left != right) return false;
  }
  return true;
}

class EffectDelta : public TensorDelta {
 public:
  EffectDelta(const Checkpoint& base, std::string tensor, Effect effect)
      : base_(base), tensor_(std::move(tensor)), effect_(std::move(effect)) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::vector<float> before(out.size());
    CAIRN_RETURN_IF_ERROR(
        base_.ReadFloats(tensor_, first, absl::MakeSpan(before)));
    std::fill(out.begin(), out.end(), 0.0F);
    return effect_->AddChange(first, before, 1.0F, out);
  }

 private:
  const Checkpoint& base_;
  const std::string tensor_;
  const Effect effect_;
};

class AdapterChange : public ChangeSource {
 public:
  AdapterChange(std::shared_ptr<Checkpoint> base, ModelSource source,
                ModelEffects effects)
      : base_(std::move(base)),
        source_(std::move(source)),
        effects_(std::move(effects)) {
    for (const auto& [name, effect] : effects_.effects) {
      tensors_.push_back(*base_->Find(name));
    }
  }

  const std::vector<TensorSpec>& tensors() const override { return tensors_; }
  absl::StatusOr<std::unique_ptr<TensorDelta>> Open(
      const TensorSpec& tensor) const override {
    CAIRN_ASSIGN_OR_RETURN(Effect effect,
                           Loaded(effects_.effects.at(tensor.name)));
    return std::make_unique<EffectDelta>(*base_, tensor.name,
                                         std::move(effect));
  }

 private:
  const std::shared_ptr<Checkpoint> base_;
  const ModelSource source_;  // what effects may refer to
  const ModelEffects effects_;
  std::vector<TensorSpec> tensors_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ChangeSource>> MakeCheckpointChange(
    const Checkpoint& base, const Checkpoint& tuned) {
  std::vector<TensorSpec> tensors;
  for (const CheckpointTensor& tensor : tuned.tensors()) {
    CAIRN_RETURN_IF_ERROR(CheckTunedTensor(tensor, base.Find(tensor.name)));
    if (IsNumeric(tensor.dtype)) {
      tensors.push_back(tensor);
      continue;
    }
    CAIRN_ASSIGN_OR_RETURN(const bool is_same, IsSame(base, tuned, tensor));
    if (!is_same) {
      CAIRN_RETURN_IF_ERROR(CheckReplaceable(tensor.name, tensor.dtype));
    }
  }
  return std::make_unique<CheckpointChange>(base, tuned, std::move(tensors));
}

std::unique_ptr<ChangeSource> MakeWeights(const Checkpoint& checkpoint) {
  return std::make_unique<Weights>(checkpoint);
}

absl::StatusOr<std::unique_ptr<ChangeSource>> MakeAdapterChange(
    std::shared_ptr<Checkpoint> base, const std::string& base_directory,
    const std::string& adapter_directory) {
  CAIRN_ASSIGN_OR_RETURN(ModelSource source,
                         ModelSource::Open(base_directory, base));
  CAIRN_ASSIGN_OR_RETURN(AdaptedModel adapted,
                         OpenAdapters(source, {{adapter_directory, 1.0}}));
  if (!adapted.effects.added.empty()) {
    const std::string& name = adapted.effects.added[0].name;
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "UNSUPPORTED",
        absl::StrCat(adapter_directory, " adds or resizes tensor ",
                     JsonQuote(name),
                     "; an update changes tensors that its base has"),
        {{"tensor", name}});
  }
  return std::make_unique<AdapterChange>(std::move(base), std::move(source),
                                         std::move(adapted.effects));
}

}  // namespace cairn
