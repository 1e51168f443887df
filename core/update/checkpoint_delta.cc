#include "core/update/checkpoint_delta.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/ordered_work.h"
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

// How many changes of a tensor, and of all before it, are as large as the least
// that is kept.
struct TensorSurvey {
  int64_t least = 0;
  int64_t least_before = 0;
};

// Looks at tensors and writes them one after the other, for one thread.
class TensorWriter {
 public:
  TensorWriter(const Checkpoint& base, const Checkpoint& tuned)
      : base_(base), tuned_(tuned), reader_(base, tuned) {}

  absl::StatusOr<int64_t> CountChanged(const CheckpointTensor& tensor) {
    const auto width =
        static_cast<size_t>(std::max(1, DTypeBits(tensor.dtype) / 8));
    int64_t changed = 0;
    CAIRN_RETURN_IF_ERROR(
        reader_.ForEachTile(tensor, [&](int64_t, auto before, auto after) {
          ForEachChange(before, after, width, [&](size_t) { ++changed; });
          return absl::OkStatus();
        }));
    if (changed > 0) {
      CAIRN_RETURN_IF_ERROR(CheckReplaceable(tensor.name, tensor.dtype));
    }
    return changed;
  }

  absl::Status CountMagnitudes(const CheckpointTensor& tensor,
                               ChangeThreshold& threshold) {
    return reader_.ForEachTile(tensor, [&](int64_t, auto before, auto after) {
      threshold.Count(Changes(tensor.dtype, before, after));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<int64_t> CountLeast(const CheckpointTensor& tensor,
                                     const ChangeThreshold& threshold) {
    int64_t least = 0;
    CAIRN_RETURN_IF_ERROR(
        reader_.ForEachTile(tensor, [&](int64_t, auto before, auto after) {
          for (const float change : Changes(tensor.dtype, before, after)) {
            least += threshold.IsLeast(change) ? 1 : 0;
          }
          return absl::OkStatus();
        }));
    return least;
  }

  absl::Status WriteDense(const CheckpointTensor& tensor,
                          LosslessUpdateWriter& writer) {
    CAIRN_RETURN_IF_ERROR(writer.BeginTensor(tensor));
    const int64_t size = tensor.end - tensor.begin;
    const int64_t block = kLosslessBlock * (DTypeBits(tensor.dtype) / 8);
    std::vector<char> before, after;
    for (int64_t offset = 0; offset < size; offset += block) {
      before.resize(static_cast<size_t>(std::min(block, size - offset)));
      after.resize(before.size());
      CAIRN_RETURN_IF_ERROR(
          base_.ReadBytes(tensor.name, offset, absl::MakeSpan(before)));
      CAIRN_RETURN_IF_ERROR(
          tuned_.ReadBytes(tensor.name, offset, absl::MakeSpan(after)));
      CAIRN_RETURN_IF_ERROR(writer.AddBlock(before, after));
    }
    return absl::OkStatus();
  }

  // Returns how many elements it kept.
  absl::StatusOr<int64_t> WriteSparse(const CheckpointTensor& tensor,
                                      ChangeThreshold threshold,
                                      CodedUpdateWriter& writer) {
    CAIRN_RETURN_IF_ERROR(writer.BeginTensor(tensor));
    CAIRN_RETURN_IF_ERROR(
        writer.BeginListed({.form = ValueForm::kReplacement}));
    int64_t kept = 0;
    CAIRN_RETURN_IF_ERROR(reader_.ForEachTile(
        tensor, [&](int64_t first, auto before, auto after) {
          return AddTile(tensor, first, before, after, threshold, writer, kept);
        }));
    return kept;
  }

 private:
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
  PairReader reader_;
  // Reused from tile to tile.
  std::vector<float> before_;
  std::vector<float> after_;
  std::vector<int64_t> positions_;
  std::vector<char> values_;
};

class DeltaMaker {
 public:
  DeltaMaker(const Checkpoint& base, const Checkpoint& tuned,
             const std::string& path, const CheckpointDeltaOptions& options)
      : base_(base),
        tuned_(tuned),
        path_(path),
        options_(options),
        threshold_(0),
        total_bytes_(2 * tuned.tensor_bytes()) {
    for (int i = 0; i < std::max(1, options.threads); ++i) {
      workers_.emplace_back(base, tuned);
    }
  }

  absl::StatusOr<CheckpointDelta> Make() {
    if (!(options_.density > 0.0 && options_.density <= 1.0)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "density ", options_.density, " must be above 0 and at most 1"));
    }
    CAIRN_RETURN_IF_ERROR(LookAtAll());
    if (changed_.empty()) {
      return absl::FailedPreconditionError(
          "the tuned checkpoint equals its base: nothing is changed");
    }
    const bool is_thinned = options_.density < 1.0;
    auto encoding = options_.encoding;
    if (encoding == v1::Encoding::ENCODING_UNSPECIFIED) {
      encoding = is_thinned || sparse_bytes_ < dense_bytes_ / kDenseShortens
                     ? v1::Encoding::SPARSE
                     : v1::Encoding::DENSE;
    }
    if (is_thinned && encoding != v1::Encoding::SPARSE) {
      return absl::InvalidArgumentError(
          "only a sparse update has a density below 1");
    }
    if (encoding == v1::Encoding::DENSE) {
      CAIRN_RETURN_IF_ERROR(WriteDense());
    } else if (encoding == v1::Encoding::SPARSE) {
      CAIRN_RETURN_IF_ERROR(WriteSparse());
    } else {
      return absl::InvalidArgumentError(
          "a checkpoint's change is encoded as SPARSE or DENSE");
    }
    CAIRN_ASSIGN_OR_RETURN(auto file, OpenFileSource(path_));
    delta_.size_bytes = file->size();
    return delta_;
  }

 private:
  TensorWriter& Worker(int worker) {
    return workers_[static_cast<size_t>(worker)];
  }
  absl::Status RunAll(size_t tensors,
                      absl::FunctionRef<absl::Status(int, int64_t)> make,
                      absl::FunctionRef<absl::Status(int, int64_t)> take) {
    return RunOrdered(static_cast<int>(workers_.size()),
                      static_cast<int64_t>(tensors), make, take);
  }

  void Progress(const CheckpointTensor& tensor) {
    done_bytes_ += tensor.end - tensor.begin;
    if (options_.progress) {
      options_.progress(std::min(done_bytes_, total_bytes_), total_bytes_);
    }
  }

  absl::Status LookAtAll() {
    for (const CheckpointTensor& tensor : base_.tensors()) {
      elements_ += tensor.elements();
    }
    const std::vector<CheckpointTensor>& tensors = tuned_.tensors();
    std::vector<int64_t> changed(tensors.size());
    return RunAll(
        tensors.size(),
        [&](int worker, int64_t piece) -> absl::Status {
          const auto i = static_cast<size_t>(piece);
          CAIRN_RETURN_IF_ERROR(
              CheckTunedTensor(tensors[i], base_.Find(tensors[i].name)));
          CAIRN_ASSIGN_OR_RETURN(changed[i],
                                 Worker(worker).CountChanged(tensors[i]));
          return absl::OkStatus();
        },
        [&](int, int64_t piece) {
          const auto i = static_cast<size_t>(piece);
          if (changed[i] > 0) Note(tensors[i], changed[i]);
          Progress(tensors[i]);
          return absl::OkStatus();
        });
  }

  void Note(const CheckpointTensor& tensor, int64_t changed) {
    changed_.push_back(&tensor);
    surveys_.emplace_back();
    delta_.changed_elements += changed;
    ++delta_.changed_tensors;
    sparse_bytes_ += static_cast<int64_t>(
                         PositionEntropyBits(changed, tensor.elements()) / 8) +
                     changed * (DTypeBits(tensor.dtype) / 8);
    dense_bytes_ += tensor.end - tensor.begin;
  }

  absl::Status WriteDense() {
    delta_.encoding = v1::Encoding::DENSE;
    std::vector<std::unique_ptr<LosslessUpdateWriter>> parts;
    while (parts.size() <= workers_.size()) {
      CAIRN_ASSIGN_OR_RETURN(
          parts.emplace_back(),
          LosslessUpdateWriter::Create(path_, options_.base_digest));
    }
    LosslessUpdateWriter& whole = *parts.back();
    CAIRN_RETURN_IF_ERROR(RunAll(
        changed_.size(),
        [&](int worker, int64_t piece) {
          return Worker(worker).WriteDense(
              *changed_[static_cast<size_t>(piece)],
              *parts[static_cast<size_t>(worker)]);
        },
        [&](int worker, int64_t piece) {
          Progress(*changed_[static_cast<size_t>(piece)]);
          return whole.Take(*parts[static_cast<size_t>(worker)]);
        }));
    return std::move(whole).Finish();
  }

  // The least change that is kept, when only a share of the elements may be,
  // and how often it comes before each tensor.
  absl::Status FindThreshold() {
    const auto kept = static_cast<int64_t>(
        std::llround(options_.density * static_cast<double>(elements_)));
    if (delta_.changed_elements <= kept) return absl::OkStatus();
    const auto nothing = [](int, int64_t) { return absl::OkStatus(); };
    threshold_ = ChangeThreshold(std::max<int64_t>(kept, 1));
    while (!threshold_.done()) {
      std::vector<ChangeThreshold> counts(workers_.size(), threshold_);
      CAIRN_RETURN_IF_ERROR(RunAll(
          changed_.size(),
          [&](int worker, int64_t piece) {
            return Worker(worker).CountMagnitudes(
                *changed_[static_cast<size_t>(piece)],
                counts[static_cast<size_t>(worker)]);
          },
          nothing));
      for (const ChangeThreshold& count : counts) threshold_.Add(count);
      threshold_.EndPass();
    }
    int64_t least = 0;
    return RunAll(
        changed_.size(),
        [&](int worker, int64_t piece) -> absl::Status {
          const auto i = static_cast<size_t>(piece);
          CAIRN_ASSIGN_OR_RETURN(
              surveys_[i].least,
              Worker(worker).CountLeast(*changed_[i], threshold_));
          return absl::OkStatus();
        },
        [&](int, int64_t piece) {
          TensorSurvey& survey = surveys_[static_cast<size_t>(piece)];
          survey.least_before = least;
          least += survey.least;
          return absl::OkStatus();
        });
  }

  absl::Status WriteSparse() {
    CAIRN_RETURN_IF_ERROR(FindThreshold());
    delta_.encoding = v1::Encoding::SPARSE;
    delta_.changed_elements = 0;
    delta_.changed_tensors = 0;
    std::vector<std::unique_ptr<CodedUpdateWriter>> parts;
    while (parts.size() <= workers_.size()) {
      CAIRN_ASSIGN_OR_RETURN(
          parts.emplace_back(),
          CodedUpdateWriter::Create(path_, options_.base_digest,
                                    kCodedFormats[0]));
    }
    CodedUpdateWriter& whole = *parts.back();
    std::vector<int64_t> kept(changed_.size());
    CAIRN_RETURN_IF_ERROR(RunAll(
        changed_.size(),
        [&](int worker, int64_t piece) -> absl::Status {
          const auto i = static_cast<size_t>(piece);
          CAIRN_ASSIGN_OR_RETURN(kept[i],
                                 Worker(worker).WriteSparse(
                                     *changed_[i], ThresholdFor(surveys_[i]),
                                     *parts[static_cast<size_t>(worker)]));
          return absl::OkStatus();
        },
        [&](int worker, int64_t piece) {
          const auto i = static_cast<size_t>(piece);
          delta_.changed_elements += kept[i];
          delta_.changed_tensors += kept[i] > 0 ? 1 : 0;
          Progress(*changed_[i]);
          return whole.Take(*parts[static_cast<size_t>(worker)]);
        }));
    return std::move(whole).Finish();
  }

  ChangeThreshold ThresholdFor(const TensorSurvey& survey) const {
    return threshold_.is_set() ? threshold_.After(survey.least_before)
                               : threshold_;
  }

  const Checkpoint& base_;
  const Checkpoint& tuned_;
  const std::string& path_;
  const CheckpointDeltaOptions& options_;
  std::vector<TensorWriter> workers_;  // one a thread
  int64_t elements_ = 0;               // of the whole base
  // Tensors of the tuned checkpoint that changed, and what is known of them.
  std::vector<const CheckpointTensor*> changed_;
  std::vector<TensorSurvey> surveys_;
  // What the two encodings would take.
  int64_t sparse_bytes_ = 0;
  int64_t dense_bytes_ = 0;
  ChangeThreshold threshold_;  // not set: everything is kept
  CheckpointDelta delta_;
  const int64_t total_bytes_;
  int64_t done_bytes_ = 0;
};

}  // namespace

absl::StatusOr<CheckpointDelta> WriteCheckpointDelta(
    const Checkpoint& base, const Checkpoint& tuned, const std::string& path,
    const CheckpointDeltaOptions& options) {
  return DeltaMaker(base, tuned, path, options).Make();
}

}  // namespace cairn
