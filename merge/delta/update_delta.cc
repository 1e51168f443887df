#include "merge/delta/update_delta.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/v1/common.pb.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"
#include "core/update/base_model.h"
#include "core/update/effects.h"

namespace cairn {
namespace {

// Elements converted at a time; bounds the memory of a read.
constexpr int64_t kTileElements = 1 << 15;

class LoraDelta : public TensorDelta {
 public:
  explicit LoraDelta(LowRankBlock factors) : factors_(std::move(factors)) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    const int64_t elements = factors_.rows * factors_.columns;
    if (first < 0 || first + static_cast<int64_t>(out.size()) > elements) {
      return absl::OutOfRangeError(absl::StrCat(
          "elements [", first, ", ", first + static_cast<int64_t>(out.size()),
          ") of a product of ", elements, " elements"));
    }
    MultiplyLowRank({.left = factors_.left.data(),
                     .right = factors_.right.data(),
                     .rank = factors_.rank,
                     .columns = factors_.columns,
                     .scale = factors_.scale},
                    first, out);
    return absl::OkStatus();
  }

 private:
  const LowRankBlock factors_;
};

// The change of an encoding that carries differences.
class DifferenceDelta : public TensorDelta {
 public:
  explicit DifferenceDelta(std::unique_ptr<ChangeReader> change)
      : change_(std::move(change)) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    return change_->Read(first, out);
  }

 private:
  const std::unique_ptr<ChangeReader> change_;
};

// tuned - base, for encodings that carry replacement values.
class ReplacementDelta : public TensorDelta {
 public:
  ReplacementDelta(const Update& update, std::unique_ptr<ByteSource> base,
                   const CheckpointTensor& tensor)
      : update_(update), base_(std::move(base)), tensor_(tensor) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::vector<char> bytes;
    std::vector<float> before;
    while (!out.empty()) {
      const size_t count = std::min<size_t>(out.size(), kTileElements);
      absl::Span<float> tile = out.subspan(0, count);
      CAIRN_RETURN_IF_ERROR(ReadTile(first, tile, bytes, before));
      first += static_cast<int64_t>(count);
      out.remove_prefix(count);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status ReadTile(int64_t first, absl::Span<float> tile,
                        std::vector<char>& bytes,
                        std::vector<float>& before) const {
    const int64_t width = DTypeBits(tensor_.dtype) / 8;
    bytes.resize(tile.size() * static_cast<size_t>(width));
    before.resize(tile.size());
    absl::Span<char> raw = absl::MakeSpan(bytes);
    CAIRN_RETURN_IF_ERROR(base_->ReadAt(first * width, raw));
    ToFloats(tensor_.dtype, raw, absl::MakeSpan(before));
    CAIRN_RETURN_IF_ERROR(update_.ReadTuned(tensor_.name, *base_, first, raw));
    ToFloats(tensor_.dtype, raw, tile);
    for (size_t i = 0; i < tile.size(); ++i) tile[i] -= before[i];
    return absl::OkStatus();
  }

  const Update& update_;
  const std::unique_ptr<ByteSource> base_;  // the tensor's bytes
  const CheckpointTensor& tensor_;
};

// What the effect of an adapter changes.
class EffectDelta : public TensorDelta {
 public:
  EffectDelta(Effect effect, std::unique_ptr<ByteSource> base, DType dtype)
      : effect_(std::move(effect)),
        base_(std::move(base)),
        values_({.dtype = dtype, .bytes = base_.get()}) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    std::vector<float> before;
    while (!out.empty()) {
      const size_t count = std::min<size_t>(out.size(), kTileElements);
      CAIRN_RETURN_IF_ERROR(
          ReadChange(*effect_, values_, first, before, out.subspan(0, count)));
      first += static_cast<int64_t>(count);
      out.remove_prefix(count);
    }
    return absl::OkStatus();
  }

 private:
  const Effect effect_;
  const std::unique_ptr<ByteSource> base_;
  const BaseValues values_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenUpdateOn(
    const Checkpoint& base, const std::string& directory) {
  const v1::TensorManifest tensors = TensorsOf(base);
  const BaseModel model = {.tensors = &tensors,
                           .config_json = base.config_json()};
  return OpenUpdateDirectory(directory, &model);
}

absl::StatusOr<std::unique_ptr<TensorDelta>> OpenTensorDelta(
    const Update& update, const Checkpoint& base, absl::string_view tensor) {
  if (update.Find(tensor) == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the update does not touch tensor ", tensor));
  }
  if (update.form() == Update::Form::kDifference) {
    CAIRN_ASSIGN_OR_RETURN(auto change, update.OpenChange(tensor));
    return std::make_unique<DifferenceDelta>(std::move(change));
  }
  if (update.FactorBytes(tensor) > 0) {
    CAIRN_ASSIGN_OR_RETURN(LoraFactors factors, update.ReadFactors(tensor));
    return std::make_unique<LoraDelta>(Orient(std::move(factors)));
  }
  const CheckpointTensor* entry = base.Find(tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("the base of the update has no tensor ", tensor));
  }
  if (!IsNumeric(entry->dtype)) {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "DTYPE_MISMATCH",
        absl::StrCat("tensor ", tensor, " is ", DTypeName(entry->dtype),
                     ": only F32, F16 and BF16 can be merged"),
        {{"tensor", std::string(tensor)}});
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> bytes,
                         base.OpenTensor(tensor));
  if (update.form() == Update::Form::kReplacement) {
    return std::make_unique<ReplacementDelta>(update, std::move(bytes), *entry);
  }
  CAIRN_ASSIGN_OR_RETURN(
      Effect effect,
      update.OpenEffect(tensor, {.dtype = entry->dtype, .bytes = bytes.get()}));
  return std::make_unique<EffectDelta>(std::move(effect), std::move(bytes),
                                       entry->dtype);
}

absl::StatusOr<std::vector<float>> ReadTunedTensor(const Update& update,
                                                   const Checkpoint& base,
                                                   absl::string_view tensor) {
  const CheckpointTensor* entry = base.Find(tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("the base has no tensor ", tensor));
  }
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<TensorDelta> delta,
                         OpenTensorDelta(update, base, tensor));
  std::vector<float> tuned(static_cast<size_t>(entry->elements()));
  CAIRN_RETURN_IF_ERROR(base.ReadFloats(tensor, 0, absl::MakeSpan(tuned)));
  std::vector<float> tau(std::min<size_t>(tuned.size(), kTileElements));
  for (size_t first = 0; first < tuned.size(); first += tau.size()) {
    const size_t count = std::min(tau.size(), tuned.size() - first);
    absl::Span<float> tile(tau.data(), count);
    CAIRN_RETURN_IF_ERROR(delta->Read(static_cast<int64_t>(first), tile));
    AddScaled(1.0f, tile, absl::MakeSpan(tuned).subspan(first, count));
  }
  return tuned;
}

absl::Status CheckFits(const Update& update, const Checkpoint& base,
                       absl::string_view base_digest) {
  const v1::TensorManifest manifest = TensorsOf(base);
  if (!base_digest.empty()) {
    return CheckAgainstBase(update, manifest, base_digest);
  }
  return CheckAgainstBase(update, manifest, update.base_digest());
}

}  // namespace cairn
