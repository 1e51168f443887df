#include "merge/engine/model_source.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/tensor/dtype.h"

namespace cairn {

absl::StatusOr<SourceTensor> SourceTensor::Loaded() const {
  SourceTensor out = *this;
  if (effect != nullptr) {
    CAIRN_ASSIGN_OR_RETURN(out.effect, cairn::Loaded(effect));
  }
  return out;
}

absl::StatusOr<ModelSource> ModelSource::Open(
    std::string label, std::shared_ptr<Checkpoint> model) {
  ModelSource source;
  source.label_ = std::move(label);
  source.checkpoint_ = std::move(model);
  source.config_json_ = source.checkpoint_->config_json();
  for (const CheckpointTensor& tensor : source.checkpoint_->tensors()) {
    source.tensors_[tensor.name] = {
        .spec = tensor, .stored = &tensor, .effect = nullptr};
  }
  return source;
}

ModelSource ModelSource::Planned(std::string label,
                                 std::vector<TensorSpec> tensors,
                                 std::string config_json, FileMap files) {
  ModelSource source;
  source.label_ = std::move(label);
  source.config_json_ = std::move(config_json);
  source.files_ = std::move(files);
  for (TensorSpec& spec : tensors) {
    const std::string name = spec.name;
    source.tensors_[name] = {
        .spec = std::move(spec), .stored = nullptr, .effect = nullptr};
  }
  return source;
}

absl::Status ModelSource::Attach(std::shared_ptr<Checkpoint> model) {
  checkpoint_ = std::move(model);
  for (auto& [name, tensor] : tensors_) {
    const CheckpointTensor* stored = checkpoint_->Find(name);
    if (stored == nullptr) {
      return absl::InternalError(
          absl::StrCat(label_, " was made without tensor ", name));
    }
    if (tensor.effect == nullptr) tensor.stored = stored;
  }
  return absl::OkStatus();
}

absl::Status ModelSource::AddEffects(ModelEffects effects) {
  for (TensorSpec& spec : effects.added) {
    const std::string name = spec.name;
    tensors_[name] = {
        .spec = std::move(spec), .stored = nullptr, .effect = nullptr};
  }
  for (auto& [name, effect] : effects.effects) {
    auto found = tensors_.find(name);
    if (found == tensors_.end()) {
      return absl::InternalError(absl::StrCat("no tensor ", name));
    }
    found->second.effect = std::move(effect);
  }
  effects_digest_ += effects.digest;
  return absl::OkStatus();
}

const SourceTensor* ModelSource::Find(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

absl::Status ModelSource::Read(const SourceTensor& tensor, int64_t first,
                               absl::Span<float> out,
                               std::vector<char>& raw) const {
  const DType dtype = tensor.spec.dtype;
  const auto width = static_cast<size_t>(DTypeBits(dtype) / 8);
  raw.resize(std::max(raw.size(), out.size() * width));
  const absl::Span<char> bytes(raw.data(), out.size() * width);
  if (tensor.stored == nullptr) {
    std::fill(out.begin(), out.end(), 0.0f);
  } else {
    CAIRN_RETURN_IF_ERROR(checkpoint_->ReadBytes(
        tensor.spec.name, first * static_cast<int64_t>(width), bytes));
    ToFloats(dtype, bytes, out);
  }
  if (tensor.effect == nullptr) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(tensor.effect->Apply(first, out));
  RoundTo(dtype, out);
  return absl::OkStatus();
}

absl::Status ModelSource::ReadRaw(const SourceTensor& tensor, int64_t first,
                                  absl::Span<char> out) const {
  const int64_t width = DTypeBits(tensor.spec.dtype) / 8;
  return checkpoint_->ReadBytes(tensor.spec.name, first * width, out);
}

absl::StatusOr<uint64_t> ModelSource::SampleContent() const {
  constexpr int64_t kSamples = 16, kSampleBytes = 256;
  uint64_t digest = XXH3_64bits(effects_digest_.data(), effects_digest_.size());
  char bytes[kSampleBytes];
  for (const auto& [name, tensor] : tensors_) {
    const std::string head = absl::StrCat(
        name, " ", DTypeName(tensor.spec.dtype), ShapeText(tensor.spec.shape));
    digest = XXH3_64bits_withSeed(head.data(), head.size(), digest);
    if (tensor.stored == nullptr) continue;
    const int64_t size = tensor.spec.size_bytes();
    const int64_t count = std::min(kSampleBytes, size);
    const int64_t step = std::max<int64_t>(1, (size - count) / (kSamples - 1));
    for (int64_t at = 0; at + count <= size && count > 0; at += step) {
      const absl::Span<char> sample(bytes, static_cast<size_t>(count));
      CAIRN_RETURN_IF_ERROR(checkpoint_->ReadBytes(name, at, sample));
      digest = XXH3_64bits_withSeed(bytes, sample.size(), digest);
    }
  }
  return digest;
}

}  // namespace cairn
