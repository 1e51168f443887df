#include "merge/compress/compress_update.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json_value.h"
#include "core/base/log.h"
#include "core/base/ordered_work.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/codec/position_codec.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"
#include "core/update/change_threshold.h"
#include "core/update/coded_update_writer.h"
#include "merge/compress/low_rank_fit.h"
#include "merge/engine/piece_runner.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 16;
// Smaller tensors are kept exactly.
constexpr int64_t kMatrixElementsMin = 1024;

const CodedFormat& FormatOf(Compression kind) {
  static constexpr const char* kNames[] = {"sparse", "ternary", "bit",
                                           "int8",   "int4",    "low-rank"};
  const absl::string_view name = kNames[static_cast<size_t>(kind)];
  for (const CodedFormat& format : kCodedFormats) {
    if (format.name == name) return format;
  }
  CAIRN_CHECK(false);
  return kCodedFormats[0];
}

// Factors' values: listed ones may be integers.
ValueForm FactorForm(ValueForm values) {
  return ValueBits(values) >= 16 ? values : ValueForm::kBF16;
}

absl::Status CheckOptions(const CompressOptions& options) {
  const bool may_be_none = options.kind == Compression::kLowRank;
  if (!(options.density <= 1 &&
        (options.density > 0 || (may_be_none && options.density == 0)))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "density ", options.density, " must be above 0 and at most 1"));
  }
  if (options.rank < 1 || options.group < 0 || options.group == 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank ", options.rank, " must be at least 1, group ",
                     options.group, " at least 2, or 0 for a scale a tensor"));
  }
  if (options.values == ValueForm::kReplacement ||
      options.values == ValueForm::kSign) {
    return absl::InvalidArgumentError(
        absl::StrCat("values are kept as f32, f16, bf16, int8 or int4, not as ",
                     ValueFormName(options.values)));
  }
  if (options.mask != nullptr && options.kind != Compression::kSparse) {
    return absl::InvalidArgumentError("only a sparse update has a mask");
  }
  return absl::OkStatus();
}

// What is left of a change once a product is taken from it.
class Remainder : public TensorDelta {
 public:
  Remainder(const TensorDelta& change, const FittedFactors& factors,
            int64_t columns)
      : change_(change), factors_(factors), columns_(columns) {}

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    CAIRN_RETURN_IF_ERROR(change_.Read(first, out));
    AddLowRank({.left = factors_.left.data(),
                .right = factors_.right.data(),
                .rank = factors_.rank,
                .columns = columns_},
               -1.0F, first, out);
    return absl::OkStatus();
  }

 private:
  const TensorDelta& change_;
  const FittedFactors& factors_;
  const int64_t columns_;
};

// What one look at a tensor's change tells.
struct Survey {
  int64_t changed = 0;
  // Of these, as large as the least that is kept; and before the tensor.
  int64_t least = 0;
  int64_t least_before = 0;
  float largest = 0;
  double magnitudes = 0;  // their sum
};

// Codes tensors one after the other, for one thread.
class TensorCoder {
 public:
  TensorCoder(const ChangeSource& source, const CompressOptions& options)
      : source_(source), options_(options) {}

  // Adds the magnitudes of a tensor's change to a threshold's counts.
  absl::Status Count(const TensorSpec& tensor, ChangeThreshold& threshold) {
    CAIRN_ASSIGN_OR_RETURN(auto change, source_.Open(tensor));
    return CountMagnitudes(tensor, *change, threshold);
  }

  // `whole`: the least change that is kept of a whole model.
  absl::StatusOr<Survey> LookAt(const TensorSpec& tensor,
                                const ChangeThreshold& whole) {
    CAIRN_ASSIGN_OR_RETURN(auto change, source_.Open(tensor));
    return LookAt(tensor, *change, whole);
  }

  // What of a tensor that changed is kept; `whole` as it is after the tensors
  // before it.
  absl::Status Write(const TensorSpec& tensor, const Survey& survey,
                     ChangeThreshold& whole, CodedUpdateWriter& writer) {
    CAIRN_ASSIGN_OR_RETURN(auto change, source_.Open(tensor));
    return WriteTensor(tensor, *change, survey, whole, writer);
  }

  absl::Status WriteMask(const TensorSpec& tensor, ChangeThreshold& whole,
                         PositionMaskWriter& writer) {
    CAIRN_ASSIGN_OR_RETURN(auto change, source_.Open(tensor));
    CAIRN_RETURN_IF_ERROR(writer.BeginTensor(tensor));
    return ForEachTile(tensor, *change,
                       [&](int64_t first, absl::Span<const float> tile) {
                         Select(first, tile, whole);
                         return writer.Add(positions_);
                       });
  }

 private:
  // Calls visit(first element, values) for every tile of a change.
  template <typename Visit>
  absl::Status ForEachTile(const TensorSpec& tensor, const TensorDelta& change,
                           Visit visit) {
    const int64_t elements = tensor.elements();
    for (int64_t first = 0; first < elements; first += kTileElements) {
      tile_.resize(
          static_cast<size_t>(std::min(kTileElements, elements - first)));
      CAIRN_RETURN_IF_ERROR(change.Read(first, absl::MakeSpan(tile_)));
      CAIRN_RETURN_IF_ERROR(visit(first, absl::MakeConstSpan(tile_)));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<Survey> LookAt(const TensorSpec& tensor,
                                const TensorDelta& change,
                                const ChangeThreshold& whole) {
    Survey survey;
    bool is_finite = true;
    CAIRN_RETURN_IF_ERROR(
        ForEachTile(tensor, change, [&](int64_t, absl::Span<const float> tile) {
          for (const float value : tile) {
            const float magnitude = std::fabs(value);
            is_finite = is_finite && std::isfinite(value);
            survey.changed += magnitude > 0 ? 1 : 0;
            survey.least += whole.IsLeast(magnitude) ? 1 : 0;
            survey.largest = std::max(survey.largest, magnitude);
            survey.magnitudes += magnitude;
          }
          return absl::OkStatus();
        }));
    if (is_finite) return survey;
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "NON_FINITE",
        absl::StrCat("tensor ", JsonQuote(tensor.name),
                     " of the tuned model holds a NaN or an infinity"),
        {{"tensor", tensor.name}});
  }

  absl::Status CountMagnitudes(const TensorSpec& tensor,
                               const TensorDelta& change,
                               ChangeThreshold& threshold) {
    return ForEachTile(tensor, change,
                       [&](int64_t, absl::Span<const float> tile) {
                         magnitudes_.resize(tile.size());
                         for (size_t i = 0; i < tile.size(); ++i) {
                           magnitudes_[i] = std::fabs(tile[i]);
                         }
                         threshold.Count(magnitudes_);
                         return absl::OkStatus();
                       });
  }

  // The least change that is kept of a tensor.
  absl::StatusOr<ChangeThreshold> FindThreshold(const TensorSpec& tensor,
                                                const TensorDelta& change) {
    const double kept =
        options_.density * static_cast<double>(tensor.elements());
    ChangeThreshold threshold(std::max<int64_t>(std::llround(kept), 1));
    while (!threshold.done()) {
      CAIRN_RETURN_IF_ERROR(CountMagnitudes(tensor, change, threshold));
      threshold.EndPass();
    }
    return threshold;
  }

  absl::Status WriteTensor(const TensorSpec& tensor, const TensorDelta& change,
                           const Survey& survey, ChangeThreshold& whole,
                           CodedUpdateWriter& writer) {
    CAIRN_RETURN_IF_ERROR(writer.BeginTensor(tensor));
    if (options_.mask != nullptr) return WriteMasked(tensor, change, writer);
    if (options_.kind == Compression::kSparse) {
      return WriteListed(tensor, change, whole, ListedValues(), writer);
    }
    if (tensor.shape.size() < 2 || tensor.elements() < kMatrixElementsMin) {
      return WriteExactly(tensor, change, survey, writer);
    }
    switch (options_.kind) {
      case Compression::kTernary:
        return WriteTernary(tensor, change, writer);
      case Compression::kBit:
        return WriteAll(tensor, change, SignValues(tensor, survey), writer);
      case Compression::kInt8:
      case Compression::kInt4: {
        const bool is_byte = options_.kind == Compression::kInt8;
        return WriteAll(tensor, change,
                        {.form = is_byte ? ValueForm::kInt8 : ValueForm::kInt4,
                         .group = options_.group,
                         .scale = survey.largest / (is_byte ? 127.0F : 7.0F)},
                        writer);
      }
      default:
        return WriteLowRank(tensor, change, writer);
    }
  }

  PartValues ListedValues() const {
    // A scale for every 256: an eighth of a bit a value.
    return {.form = options_.values, .group = 256};
  }

  PartValues SignValues(const TensorSpec& tensor, const Survey& survey) const {
    const bool is_row = options_.sign_scale == SignScale::kRow;
    return {.form = ValueForm::kSign,
            .group = is_row ? FactorShapeOf(tensor.shape).columns : 0,
            .scale = static_cast<float>(
                survey.magnitudes / static_cast<double>(tensor.elements()))};
  }

  absl::Status WriteAll(const TensorSpec& tensor, const TensorDelta& change,
                        const PartValues& values, CodedUpdateWriter& writer) {
    CAIRN_RETURN_IF_ERROR(writer.BeginAll(values));
    return ForEachTile(tensor, change,
                       [&](int64_t, absl::Span<const float> tile) {
                         return writer.AddValues(tile);
                       });
  }

  // Puts what the threshold keeps of a tile in positions_ and kept_; everything
  // that changed when it is not set.
  void Select(int64_t first, absl::Span<const float> tile,
              ChangeThreshold& threshold) {
    positions_.clear();
    kept_.clear();
    for (size_t i = 0; i < tile.size(); ++i) {
      if (tile[i] == 0) continue;
      if (threshold.is_set() && !threshold.Keep(std::fabs(tile[i]))) continue;
      positions_.push_back(first + static_cast<int64_t>(i));
      kept_.push_back(tile[i]);
    }
  }

  // A tensor that the mask lists nothing of leaves no trace.
  absl::Status WriteMasked(const TensorSpec& tensor, const TensorDelta& change,
                           CodedUpdateWriter& writer) {
    const PositionMask::Tensor* masked = options_.mask->Find(tensor.name);
    if (masked == nullptr) return absl::OkStatus();
    if (masked->spec.shape != tensor.shape) {
      return ReasonedError(
          absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH",
          absl::StrCat("tensor ", JsonQuote(tensor.name), " has the shape ",
                       ShapeText(tensor.shape), ", the mask is for ",
                       ShapeText(masked->spec.shape)),
          {{"tensor", tensor.name}});
    }
    CAIRN_RETURN_IF_ERROR(
        writer.BeginMasked(masked->positions->count(), ListedValues()));
    return ForEachTile(
        tensor, change, [&](int64_t first, absl::Span<const float> tile) {
          kept_.clear();
          CAIRN_RETURN_IF_ERROR(masked->positions->ForRange(
              first, static_cast<int64_t>(tile.size()),
              [&](int64_t, absl::Span<const int64_t> positions) {
                for (const int64_t at : positions) {
                  kept_.push_back(tile[static_cast<size_t>(at - first)]);
                }
                return absl::OkStatus();
              }));
          return writer.AddValues(kept_);
        });
  }

  // Lists what the threshold keeps.
  absl::Status WriteListed(const TensorSpec& tensor, const TensorDelta& change,
                           ChangeThreshold& threshold, const PartValues& values,
                           CodedUpdateWriter& writer) {
    CAIRN_RETURN_IF_ERROR(writer.BeginListed(values));
    return ForEachTile(tensor, change,
                       [&](int64_t first, absl::Span<const float> tile) {
                         Select(first, tile, threshold);
                         CAIRN_RETURN_IF_ERROR(writer.AddPositions(positions_));
                         return writer.AddValues(kept_);
                       });
  }

  // In float32, listed where that is shorter.
  absl::Status WriteExactly(const TensorSpec& tensor, const TensorDelta& change,
                            const Survey& survey, CodedUpdateWriter& writer) {
    const int64_t elements = tensor.elements();
    const double listed = PositionEntropyBits(survey.changed, elements) +
                          32 * static_cast<double>(survey.changed);
    if (listed >= 32 * static_cast<double>(elements)) {
      return WriteAll(tensor, change, {}, writer);
    }
    ChangeThreshold everything(0);
    return WriteListed(tensor, change, everything, {}, writer);
  }

  absl::Status WriteTernary(const TensorSpec& tensor, const TensorDelta& change,
                            CodedUpdateWriter& writer) {
    CAIRN_ASSIGN_OR_RETURN(ChangeThreshold threshold,
                           FindThreshold(tensor, change));
    ChangeThreshold first_look = threshold;
    double magnitudes = 0;
    int64_t kept = 0;
    CAIRN_RETURN_IF_ERROR(
        ForEachTile(tensor, change, [&](int64_t, absl::Span<const float> tile) {
          for (const float value : tile) {
            if (value == 0 || !first_look.Keep(std::fabs(value))) continue;
            magnitudes += std::fabs(value);
            ++kept;
          }
          return absl::OkStatus();
        }));
    return WriteListed(
        tensor, change, threshold,
        {.form = ValueForm::kSign,
         .scale = static_cast<float>(magnitudes / static_cast<double>(kept))},
        writer);
  }

  absl::Status WriteLowRank(const TensorSpec& tensor, const TensorDelta& change,
                            CodedUpdateWriter& writer) {
    const FactorShape shape = FactorShapeOf(tensor.shape);
    CAIRN_ASSIGN_OR_RETURN(FittedFactors factors,
                           FitLowRank(change, shape.rows, shape.columns,
                                      options_.rank, tensor.name));
    if (factors.rank > 0) {
      const ValueForm form = FactorForm(options_.values);
      CAIRN_RETURN_IF_ERROR(
          writer.AddProduct(factors.rank, form, factors.left, factors.right));
      // The rest is of what will be read.
      const DType dtype = form == ValueForm::kF32   ? DType::kF32
                          : form == ValueForm::kF16 ? DType::kF16
                                                    : DType::kBF16;
      RoundTo(dtype, absl::MakeSpan(factors.left));
      RoundTo(dtype, absl::MakeSpan(factors.right));
    }
    if (options_.density == 0) return absl::OkStatus();
    const Remainder rest(change, factors, shape.columns);
    CAIRN_ASSIGN_OR_RETURN(ChangeThreshold threshold,
                           FindThreshold(tensor, rest));
    return WriteListed(tensor, rest, threshold, ListedValues(), writer);
  }

  const ChangeSource& source_;
  const CompressOptions& options_;
  // Reused from tile to tile.
  std::vector<float> tile_, magnitudes_, kept_;
  std::vector<int64_t> positions_;
};

// Codes all tensors of a change, several at once.
class Compressor {
 public:
  Compressor(const ChangeSource& source, const CompressOptions& options)
      : tensors_(source.tensors()),
        options_(options),
        whole_(0),
        surveys_(tensors_.size()) {
    for (const TensorSpec& tensor : tensors_) total_ += tensor.elements();
    for (int i = 0; i < std::max(1, options.threads); ++i) {
      coders_.emplace_back(source, options);
    }
  }

  absl::Status Run(const std::string& path, CodedUpdateWriter& writer) {
    if (options_.kind == Compression::kSparse && options_.mask == nullptr) {
      CAIRN_RETURN_IF_ERROR(FindWhole());
    }
    CAIRN_RETURN_IF_ERROR(LookAtAll());
    std::vector<std::unique_ptr<CodedUpdateWriter>> parts;
    while (parts.size() < coders_.size()) {
      CAIRN_ASSIGN_OR_RETURN(
          parts.emplace_back(),
          CodedUpdateWriter::Create(path, options_.base_digest,
                                    FormatOf(options_.kind),
                                    options_.mask_digest));
    }
    return RunOrdered(
        static_cast<int>(coders_.size()), static_cast<int64_t>(tensors_.size()),
        [&](int worker, int64_t piece) {
          return Write(static_cast<size_t>(piece),
                       coders_[static_cast<size_t>(worker)],
                       *parts[static_cast<size_t>(worker)]);
        },
        [&](int worker, int64_t piece) {
          Progress(tensors_[static_cast<size_t>(piece)]);
          return writer.Take(*parts[static_cast<size_t>(worker)]);
        });
  }

  absl::Status WriteMask(PositionMaskWriter& writer) {
    CAIRN_RETURN_IF_ERROR(FindWhole());
    for (const TensorSpec& tensor : tensors_) {
      CAIRN_RETURN_IF_ERROR(coders_[0].WriteMask(tensor, whole_, writer));
    }
    return absl::OkStatus();
  }

 private:
  // Calls work(number of the thread, number of the tensor) for every tensor.
  template <typename Work>
  absl::Status ForEachTensor(Work work) {
    return RunPieces(
        static_cast<int>(coders_.size()), static_cast<int64_t>(tensors_.size()),
        [&](int worker, int64_t piece) -> absl::Status {
          return work(static_cast<size_t>(worker), static_cast<size_t>(piece));
        });
  }

  // The least change that is kept of the whole model; not set when all are.
  absl::Status FindWhole() {
    if (options_.density >= 1) return absl::OkStatus();
    const double kept =
        options_.density * static_cast<double>(options_.base_elements);
    whole_ = ChangeThreshold(std::max<int64_t>(std::llround(kept), 1));
    while (!whole_.done()) {
      std::vector<ChangeThreshold> counts(coders_.size(), whole_);
      CAIRN_RETURN_IF_ERROR(ForEachTensor([&](size_t worker, size_t i) {
        return coders_[worker].Count(tensors_[i], counts[worker]);
      }));
      for (const ChangeThreshold& count : counts) whole_.Add(count);
      whole_.EndPass();
    }
    return absl::OkStatus();
  }

  absl::Status LookAtAll() {
    CAIRN_RETURN_IF_ERROR(
        ForEachTensor([&](size_t worker, size_t i) -> absl::Status {
          CAIRN_ASSIGN_OR_RETURN(surveys_[i],
                                 coders_[worker].LookAt(tensors_[i], whole_));
          return absl::OkStatus();
        }));
    int64_t least = 0;
    for (Survey& survey : surveys_) {
      survey.least_before = least;
      least += survey.least;
    }
    return absl::OkStatus();
  }

  absl::Status Write(size_t i, TensorCoder& coder, CodedUpdateWriter& part) {
    if (surveys_[i].changed == 0) return absl::OkStatus();
    ChangeThreshold whole = whole_;
    if (whole.is_set()) whole = whole.After(surveys_[i].least_before);
    return coder.Write(tensors_[i], surveys_[i], whole, part);
  }

  void Progress(const TensorSpec& tensor) {
    done_ += tensor.elements();
    if (options_.progress) options_.progress(done_, total_);
  }

  const std::vector<TensorSpec>& tensors_;
  const CompressOptions& options_;
  std::vector<TensorCoder> coders_;  // one a thread
  ChangeThreshold whole_;
  std::vector<Survey> surveys_;  // in the order of tensors_
  int64_t done_ = 0;
  int64_t total_ = 0;
};

}  // namespace

absl::Status CompressChange(const ChangeSource& source, const std::string& path,
                            const CompressOptions& options) {
  CAIRN_RETURN_IF_ERROR(CheckOptions(options));
  CAIRN_ASSIGN_OR_RETURN(
      auto writer,
      CodedUpdateWriter::Create(path, options.base_digest,
                                FormatOf(options.kind), options.mask_digest));
  CAIRN_RETURN_IF_ERROR(Compressor(source, options).Run(path, *writer));
  return std::move(*writer).Finish();
}

absl::Status WriteMask(const ChangeSource& source, const std::string& path,
                       const CompressOptions& options) {
  CAIRN_RETURN_IF_ERROR(CheckOptions(options));
  CAIRN_ASSIGN_OR_RETURN(auto writer, PositionMaskWriter::Create(path));
  CAIRN_RETURN_IF_ERROR(Compressor(source, options).WriteMask(*writer));
  return std::move(*writer).Finish();
}

}  // namespace cairn
