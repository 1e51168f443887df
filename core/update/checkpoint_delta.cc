#include "core/update/checkpoint_delta.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/codec/position_codec.h"
#include "core/update/change_threshold.h"
#include "core/update/coded_update_writer.h"
#include "core/update/lossless_update.h"
#include "core/update/replacement_update.h"

namespace cairn {
namespace {

constexpr int64_t kTileBytes = 1 << 20;
// What lossless coding makes of a tuned tensor, at least about: changes of a
// thousandth take a sixteenth, of a hundredth a quarter.
constexpr int64_t kDenseShortens = 5;
// Tiles that are equal as a whole are skipped without looking at elements.
constexpr size_t kBlockBytes = 1 << 10;

absl::Status Refuse(absl::string_view reason, absl::string_view tensor,
                    absl::string_view what) {
  return ReasonedError(absl::StatusCode::kInvalidArgument, reason,
                       absl::StrCat("tensor ", JsonQuote(tensor),
                                    " of the tuned checkpoint ", what),
                       {{"tensor", std::string(tensor)}});
}

}  // namespace

absl::Status CheckTunedTensor(const CheckpointTensor& tuned,
                              const CheckpointTensor* base) {
  if (base == nullptr) {
    return Refuse("UNKNOWN_TENSOR", tuned.name, "is not in the base");
  }
  if (tuned.shape != base->shape) {
    return Refuse("SHAPE_MISMATCH", tuned.name,
                  absl::StrCat("has the shape ", ShapeText(tuned.shape),
                               ", the base ", ShapeText(base->shape)));
  }
  if (tuned.dtype != base->dtype) {
    return Refuse("DTYPE_MISMATCH", tuned.name,
                  absl::StrCat("is ", DTypeName(tuned.dtype), ", the base ",
                               DTypeName(base->dtype),
                               "; save the tuned checkpoint in the dtype of "
                               "its base"));
  }
  return absl::OkStatus();
}

namespace {

// Walks both checkpoints side by side in tiles that are reused.
class PairReader {
 public:
  PairReader(const Checkpoint& base, const Checkpoint& tuned)
      : base_(base), tuned_(tuned), before_(kTileBytes), after_(kTileBytes) {}

  // Calls visit(first element, base bytes, tuned bytes) for every tile of a
  // tensor.
  template <typename Visit>
  absl::Status ForEachTile(const CheckpointTensor& tensor, Visit visit) {
    const int64_t size = tensor.end - tensor.begin;
    const int64_t bits = DTypeBits(tensor.dtype);
    for (int64_t offset = 0; offset < size; offset += kTileBytes) {
      const auto length =
          static_cast<size_t>(std::min(kTileBytes, size - offset));
      auto before = absl::MakeSpan(before_).subspan(0, length);
      auto after = absl::MakeSpan(after_).subspan(0, length);
      CAIRN_RETURN_IF_ERROR(base_.ReadBytes(tensor.name, offset, before));
      CAIRN_RETURN_IF_ERROR(tuned_.ReadBytes(tensor.name, offset, after));
      CAIRN_RETURN_IF_ERROR(visit(offset * 8 / bits, before, after));
    }
    return absl::OkStatus();
  }

 private:
  const Checkpoint& base_;
  const Checkpoint& tuned_;
  std::vector<char> before_;
  std::vector<char> after_;
};

// Calls visit(element index in the tile) for every element that differs.
template <typename Visit>
void ForEachChange(absl::Span<const char> before, absl::Span<const char> after,
                   size_t width, Visit visit) {
  for (size_t block = 0; block < before.size(); block += kBlockBytes) {
    const size_t length = std::min(kBlockBytes, before.size() - block);
    if (std::memcmp(before.data() + block, after.data() + block, length) == 0) {
      continue;
    }
    for (size_t at = block; at < block + length; at += width) {
      if (std::memcmp(before.data() + at, after.data() + at, width) != 0) {
        visit(at / width);
      }
    }
  }
}

// What the two encodings would take.
struct Survey {
  int64_t elements = 0;  // of the whole base
  int64_t changed_elements = 0;
  int64_t sparse_bytes = 0;
  int64_t dense_bytes = 0;
  std::vector<const CheckpointTensor*> changed;  // tensors of the tuned one
};

class DeltaMaker {
 public:
  DeltaMaker(const Checkpoint& base, const Checkpoint& tuned,
             const std::string& path, const CheckpointDeltaOptions& options)
      : base_(base),
        tuned_(tuned),
        path_(path),
        options_(options),
        reader_(base, tuned),
        total_bytes_(2 * tuned.tensor_bytes()) {}

  absl::StatusOr<CheckpointDelta> Make() {
    if (!(options_.density > 0.0 && options_.density <= 1.0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "density ", options_.density, " must be above 0 and at most 1"));
    }
    CAIRN_ASSIGN_OR_RETURN(Survey survey, Look());
    if (survey.changed.empty()) {
      return absl::FailedPreconditionError(
          "the tuned checkpoint equals its base: nothing is changed");
    }
    const bool is_thinned = options_.density < 1.0;
    auto encoding = options_.encoding;
    if (encoding == v1::Encoding::ENCODING_UNSPECIFIED) {
      encoding = is_thinned || survey.sparse_bytes <
                                   survey.dense_bytes / kDenseShortens
                     ? v1::Encoding::SPARSE
                     : v1::Encoding::DENSE;
    }
    if (is_thinned && encoding != v1::Encoding::SPARSE) {
      return absl::InvalidArgumentError(
          "only a sparse update has a density below 1");
    }
    CheckpointDelta delta;
    delta.encoding = encoding;
    delta.changed_elements = survey.changed_elements;
    delta.changed_tensors = static_cast<int64_t>(survey.changed.size());
    if (encoding == v1::Encoding::DENSE) {
      CAIRN_RETURN_IF_ERROR(WriteDense(survey));
    } else if (encoding == v1::Encoding::SPARSE) {
      CAIRN_RETURN_IF_ERROR(WriteSparse(survey, delta));
    } else {
      return absl::InvalidArgumentError(
          "a checkpoint's change is encoded as SPARSE or DENSE");
    }
    CAIRN_ASSIGN_OR_RETURN(auto file, OpenFileSource(path_));
    delta.size_bytes = file->size();
    return delta;
  }

 private:
  void Progress(const CheckpointTensor& tensor) {
    done_bytes_ += tensor.end - tensor.begin;
    if (options_.progress) {
      options_.progress(std::min(done_bytes_, total_bytes_), total_bytes_);
    }
  }

  absl::StatusOr<Survey> Look() {
    Survey survey;
    for (const CheckpointTensor& tensor : base_.tensors()) {
      survey.elements += tensor.elements();
    }
    for (const CheckpointTensor& tensor : tuned_.tensors()) {
      CAIRN_RETURN_IF_ERROR(CheckTunedTensor(tensor, base_.Find(tensor.name)));
      CAIRN_RETURN_IF_ERROR(LookAt(tensor, survey));
      Progress(tensor);
    }
    return survey;
  }

  absl::Status LookAt(const CheckpointTensor& tensor, Survey& survey) {
    const auto width =
        static_cast<size_t>(std::max(1, DTypeBits(tensor.dtype) / 8));
    int64_t changed = 0;
    CAIRN_RETURN_IF_ERROR(
        reader_.ForEachTile(tensor, [&](int64_t, auto before, auto after) {
          ForEachChange(before, after, width, [&](size_t) { ++changed; });
          return absl::OkStatus();
        }));
    if (changed == 0) return absl::OkStatus();
    CAIRN_RETURN_IF_ERROR(CheckReplaceable(tensor.name, tensor.dtype));
    survey.changed.push_back(&tensor);
    survey.changed_elements += changed;
    survey.sparse_bytes +=
        static_cast<int64_t>(PositionEntropyBits(changed, tensor.elements()) /
                             8) +
        changed * static_cast<int64_t>(width);
    survey.dense_bytes += tensor.end - tensor.begin;
    return absl::OkStatus();
  }

  absl::Status WriteDense(const Survey& survey) {
    CAIRN_ASSIGN_OR_RETURN(
        auto writer, LosslessUpdateWriter::Create(path_, options_.base_digest));
    std::vector<char> before, after;
    for (const CheckpointTensor* tensor : survey.changed) {
      CAIRN_RETURN_IF_ERROR(writer->BeginTensor(*tensor));
      const int64_t size = tensor->end - tensor->begin;
      const int64_t block = kLosslessBlock * (DTypeBits(tensor->dtype) / 8);
      for (int64_t offset = 0; offset < size; offset += block) {
        before.resize(static_cast<size_t>(std::min(block, size - offset)));
        after.resize(before.size());
        CAIRN_RETURN_IF_ERROR(
            base_.ReadBytes(tensor->name, offset, absl::MakeSpan(before)));
        CAIRN_RETURN_IF_ERROR(
            tuned_.ReadBytes(tensor->name, offset, absl::MakeSpan(after)));
        CAIRN_RETURN_IF_ERROR(writer->AddBlock(before, after));
      }
      Progress(*tensor);
    }
    return std::move(*writer).Finish();
  }

  // The least change that is kept, when only a share of the elements may be.
  absl::StatusOr<ChangeThreshold> FindThreshold(const Survey& survey) {
    const auto kept = static_cast<int64_t>(
        std::llround(options_.density * static_cast<double>(survey.elements)));
    ChangeThreshold threshold(std::max<int64_t>(kept, 1));
    if (survey.changed_elements <= kept) return threshold;
    while (!threshold.done()) {
      for (const CheckpointTensor* tensor : survey.changed) {
        CAIRN_RETURN_IF_ERROR(
            reader_.ForEachTile(*tensor, [&](int64_t, auto before, auto after) {
              threshold.Count(Changes(tensor->dtype, before, after));
              return absl::OkStatus();
            }));
      }
      threshold.EndPass();
    }
    return threshold;
  }

  // |tau| of a tile's elements.
  absl::Span<const float> Changes(DType dtype, absl::Span<const char> before,
                                  absl::Span<const char> after) {
    const size_t count =
        before.size() / static_cast<size_t>(DTypeBits(dtype) / 8);
    before_.resize(count);
    after_.resize(count);
    ToFloats(dtype, before, absl::MakeSpan(before_));
    ToFloats(dtype, after, absl::MakeSpan(after_));
    for (size_t i = 0; i < count; ++i) {
      after_[i] = std::fabs(after_[i] - before_[i]);
    }
    return after_;
  }

  absl::Status WriteSparse(const Survey& survey, CheckpointDelta& delta) {
    CAIRN_ASSIGN_OR_RETURN(ChangeThreshold threshold, FindThreshold(survey));
    CAIRN_ASSIGN_OR_RETURN(
        auto writer, CodedUpdateWriter::Create(path_, options_.base_digest,
                                               kCodedFormats[0]));
    delta.changed_elements = 0;
    delta.changed_tensors = 0;
    for (const CheckpointTensor* tensor : survey.changed) {
      CAIRN_RETURN_IF_ERROR(writer->BeginTensor(*tensor));
      CAIRN_RETURN_IF_ERROR(
          writer->BeginListed({.form = ValueForm::kReplacement}));
      int64_t kept = 0;
      CAIRN_RETURN_IF_ERROR(reader_.ForEachTile(
          *tensor, [&](int64_t first, auto before, auto after) {
            return AddTile(*tensor, first, before, after, threshold, *writer,
                           kept);
          }));
      delta.changed_elements += kept;
      delta.changed_tensors += kept > 0 ? 1 : 0;
      Progress(*tensor);
    }
    return std::move(*writer).Finish();
  }

  absl::Status AddTile(const CheckpointTensor& tensor, int64_t first,
                       absl::Span<const char> before,
                       absl::Span<const char> after, ChangeThreshold& threshold,
                       CodedUpdateWriter& writer, int64_t& kept) {
    const auto width = static_cast<size_t>(DTypeBits(tensor.dtype) / 8);
    absl::Span<const float> changes;
    if (threshold.is_set()) changes = Changes(tensor.dtype, before, after);
    positions_.clear();
    values_.clear();
    ForEachChange(before, after, width, [&](size_t index) {
      if (threshold.is_set() && !threshold.Keep(changes[index])) return;
      positions_.push_back(first + static_cast<int64_t>(index));
      values_.insert(values_.end(), after.begin() + index * width,
                     after.begin() + (index + 1) * width);
    });
    kept += static_cast<int64_t>(positions_.size());
    CAIRN_RETURN_IF_ERROR(writer.AddPositions(positions_));
    return writer.AddBytes(values_);
  }

  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const std::string& path_;
  const CheckpointDeltaOptions& options_;
  PairReader reader_;
  const int64_t total_bytes_;
  int64_t done_bytes_ = 0;
  // Reused from tile to tile.
  std::vector<float> before_;
  std::vector<float> after_;
  std::vector<int64_t> positions_;
  std::vector<char> values_;
};

}  // namespace

absl::StatusOr<CheckpointDelta> WriteCheckpointDelta(
    const Checkpoint& base, const Checkpoint& tuned, const std::string& path,
    const CheckpointDeltaOptions& options) {
  return DeltaMaker(base, tuned, path, options).Make();
}

}  // namespace cairn
