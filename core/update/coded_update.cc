#include "core/update/coded_update.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/dtype.h"
#include "core/tensor/float_kernels.h"
#include "core/tensor/tensor_norm.h"
#include "core/update/coded_tensor.h"
#include "core/update/replacement_update.h"
#include "core/update/tensor_table.h"

namespace cairn {
namespace {

constexpr int64_t kTileElements = 1 << 16;

absl::Status NotFinite(absl::string_view tensor) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "NON_FINITE",
      absl::StrCat(kUpdateFile, ": the values for tensor ", JsonQuote(tensor),
                   " hold a NaN or an infinity"),
      {{"file", kUpdateFile}, {"tensor", std::string(tensor)}});
}

std::vector<TouchedTensor> TouchedBy(const std::vector<CodedTensor>& tensors) {
  std::vector<TouchedTensor> touched;
  for (const CodedTensor& tensor : tensors) {
    touched.push_back({.name = tensor.spec.name,
                       .shape = tensor.spec.shape,
                       .dtype = tensor.spec.dtype});
  }
  return touched;
}

std::string DescribeParts(const CodedTensor& tensor) {
  std::vector<std::string> parts;
  for (const CodedPart& part : tensor.parts) {
    const ValueRange& values = part.values;
    std::string text(ValueFormName(values.form));
    if (part.kind == PartKind::kProduct) {
      text = absl::StrCat("rank ", part.rank, " in ", text);
    } else if (part.kind != PartKind::kAll) {
      text =
          absl::StrFormat("%d %s (%.3g %%) as %s", values.count,
                          part.kind == PartKind::kMasked ? "masked" : "listed",
                          100.0 * static_cast<double>(values.count) /
                              static_cast<double>(tensor.spec.elements()),
                          text);
    }
    if (HasScales(values.form)) {
      absl::StrAppend(&text, values.group == 0 ? std::string(", one scale")
                                               : absl::StrCat(", a scale for ",
                                                              values.group));
    }
    parts.push_back(std::move(text));
  }
  return absl::StrJoin(parts, "; ");
}

// Values that replace the base's at listed positions.
class CodedReplacement : public ReplacementUpdate {
 public:
  CodedReplacement(SharedSource file, std::vector<CodedTensor> tensors,
                   const CodedFormat& format, std::string base_digest)
      : ReplacementUpdate(std::move(file), TouchedBy(tensors),
                          std::move(base_digest)),
        tensors_(std::move(tensors)),
        format_(format) {}

  v1::Encoding::Kind encoding() const override { return format_.encoding; }
  std::string Describe(absl::string_view tensor) const override {
    const TouchedTensor* found = Find(tensor);
    if (found == nullptr) return "";
    return DescribeParts(
        tensors_[static_cast<size_t>(found - touched().data())]);
  }

 private:
  Range ValuesOf(size_t index) const override {
    const CodedTensor& tensor = tensors_[index];
    const ValueRange& values = tensor.parts[0].values;
    return {values.values_begin,
            values.count * (DTypeBits(tensor.spec.dtype) / 8)};
  }

  absl::Status ReadRange(size_t index, const ByteSource& base, int64_t first,
                         absl::Span<char> bytes) const override {
    const CodedPart& part = tensors_[index].parts[0];
    const auto width =
        static_cast<size_t>(DTypeBits(tensors_[index].spec.dtype) / 8);
    const auto count = static_cast<int64_t>(bytes.size() / width);
    CAIRN_RETURN_IF_ERROR(
        base.ReadAt(first * static_cast<int64_t>(width), bytes));
    std::vector<char> values;
    return part.positions->ForRange(
        first, count, [&](int64_t entry, absl::Span<const int64_t> positions) {
          values.resize(positions.size() * width);
          CAIRN_RETURN_IF_ERROR(file().ReadAt(
              part.values.values_begin + entry * static_cast<int64_t>(width),
              absl::MakeSpan(values)));
          for (size_t i = 0; i < positions.size(); ++i) {
            const auto at = static_cast<size_t>(positions[i] - first);
            std::memcpy(bytes.data() + at * width, values.data() + i * width,
                        width);
          }
          return absl::OkStatus();
        });
  }

  const std::vector<CodedTensor> tensors_;  // in the order of touched()
  const CodedFormat format_;
};

// tau of one tensor as the sum of its parts.
class CodedChange : public ChangeReader {
 public:
  CodedChange(const ByteSource& file, const CodedTensor& tensor)
      : file_(file), tensor_(tensor) {}

  // Puts the factors in memory.
  absl::Status ReadFactors() {
    const CodedPart& part = tensor_.parts[0];
    if (part.kind != PartKind::kProduct) return absl::OkStatus();
    factors_.resize(static_cast<size_t>(part.values.count));
    return UnpackValues(file_, part.values, 0, absl::MakeSpan(factors_));
  }

  absl::Status Read(int64_t first, absl::Span<float> out) const override {
    const auto count = static_cast<int64_t>(out.size());
    if (first < 0 || first > tensor_.spec.elements() ||
        count > tensor_.spec.elements() - first) {
      return absl::OutOfRangeError(
          absl::StrCat("tensor ", JsonQuote(tensor_.spec.name), " has ",
                       tensor_.spec.elements(), " elements; ", count, " from ",
                       first, " on are not among them"));
    }
    std::fill(out.begin(), out.end(), 0.0F);
    if (out.empty()) return absl::OkStatus();
    for (const CodedPart& part : tensor_.parts) {
      switch (part.kind) {
        case PartKind::kProduct:
          Multiply(part, first, out);
          break;
        case PartKind::kAll:
          CAIRN_RETURN_IF_ERROR(AddAll(part, first, out));
          break;
        case PartKind::kListed:
        case PartKind::kMasked:
          CAIRN_RETURN_IF_ERROR(AddListed(part, first, out));
          break;
      }
    }
    return absl::OkStatus();
  }

 private:
  // The product comes first, so that it may overwrite.
  void Multiply(const CodedPart& part, int64_t first,
                absl::Span<float> out) const {
    const FactorShape shape = FactorShapeOf(tensor_.spec.shape);
    MultiplyLowRank({.left = factors_.data(),
                     .right = factors_.data() + part.rank * shape.rows,
                     .rank = part.rank,
                     .columns = shape.columns},
                    first, out);
  }

  absl::Status AddAll(const CodedPart& part, int64_t first,
                      absl::Span<float> out) const {
    if (tensor_.parts.size() == 1) {
      return UnpackValues(file_, part.values, first, out);
    }
    std::vector<float> values(out.size());
    CAIRN_RETURN_IF_ERROR(
        UnpackValues(file_, part.values, first, absl::MakeSpan(values)));
    AddScaled(1.0F, values, out);
    return absl::OkStatus();
  }

  absl::Status AddListed(const CodedPart& part, int64_t first,
                         absl::Span<float> out) const {
    std::vector<float> values;
    return part.positions->ForRange(
        first, static_cast<int64_t>(out.size()),
        [&](int64_t entry, absl::Span<const int64_t> positions) {
          values.resize(positions.size());
          CAIRN_RETURN_IF_ERROR(
              UnpackValues(file_, part.values, entry, absl::MakeSpan(values)));
          for (size_t i = 0; i < positions.size(); ++i) {
            out[static_cast<size_t>(positions[i] - first)] += values[i];
          }
          return absl::OkStatus();
        });
  }

  const ByteSource& file_;
  const CodedTensor& tensor_;
  std::vector<float> factors_;
};

// Differences from the base.
class CodedDifference : public Update {
 public:
  CodedDifference(SharedSource file, std::vector<CodedTensor> tensors,
                  const CodedFormat& format, std::string base_digest)
      : file_(std::move(file)),
        touched_(TouchedBy(tensors)),
        tensors_(std::move(tensors)),
        format_(format),
        base_digest_(std::move(base_digest)) {}

  v1::Encoding::Kind encoding() const override { return format_.encoding; }
  Form form() const override { return Form::kDifference; }
  std::string Describe(absl::string_view tensor) const override {
    const CodedTensor* coded = Coded(tensor);
    return coded == nullptr ? "" : DescribeParts(*coded);
  }
  const std::vector<TouchedTensor>& touched() const override {
    return touched_;
  }
  std::string base_digest() const override { return base_digest_; }

  absl::Status CheckFinite() const override {
    for (const CodedTensor& tensor : tensors_) {
      for (const CodedPart& part : tensor.parts) {
        CAIRN_ASSIGN_OR_RETURN(const bool is_finite,
                               AreValuesFinite(*file_, part.values));
        if (!is_finite) return NotFinite(tensor.spec.name);
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<double> DeltaNorm(absl::string_view tensor,
                                   const ByteSource& /*base*/) const override {
    CAIRN_ASSIGN_OR_RETURN(const auto change, OpenChange(tensor));
    const int64_t elements = Coded(tensor)->spec.elements();
    std::vector<float> tile;
    double total = 0.0;
    for (int64_t first = 0; first < elements; first += kTileElements) {
      tile.resize(
          static_cast<size_t>(std::min(kTileElements, elements - first)));
      CAIRN_RETURN_IF_ERROR(change->Read(first, absl::MakeSpan(tile)));
      for (const float tau : tile) total += static_cast<double>(tau) * tau;
    }
    return std::sqrt(total);
  }

  absl::StatusOr<std::unique_ptr<ChangeReader>> OpenChange(
      absl::string_view tensor) const override {
    const CodedTensor* coded = Coded(tensor);
    if (coded == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("the update does not touch tensor ", JsonQuote(tensor)));
    }
    auto change = std::make_unique<CodedChange>(*file_, *coded);
    CAIRN_RETURN_IF_ERROR(change->ReadFactors());
    return change;
  }

  int64_t EffectBytes(absl::string_view tensor) const override {
    const CodedTensor* coded = Coded(tensor);
    if (coded == nullptr || coded->parts[0].kind != PartKind::kProduct) {
      return 0;
    }
    return 4 * coded->parts[0].values.count;
  }

  absl::Status ReadTuned(absl::string_view tensor, const ByteSource& base,
                         int64_t first, absl::Span<char> bytes) const override {
    CAIRN_ASSIGN_OR_RETURN(const auto change, OpenChange(tensor));
    const DType dtype = Coded(tensor)->spec.dtype;
    const auto width = static_cast<size_t>(DTypeBits(dtype) / 8);
    if (bytes.size() % width != 0) {
      return absl::OutOfRangeError(absl::StrCat(
          bytes.size(), " bytes are no whole elements of ", width));
    }
    std::vector<float> tau, values;
    while (!bytes.empty()) {
      const size_t n =
          std::min(bytes.size() / width, static_cast<size_t>(kTileElements));
      tau.resize(n);
      values.resize(n);
      const absl::Span<char> tile = bytes.subspan(0, n * width);
      CAIRN_RETURN_IF_ERROR(change->Read(first, absl::MakeSpan(tau)));
      CAIRN_RETURN_IF_ERROR(
          base.ReadAt(first * static_cast<int64_t>(width), tile));
      ToFloats(dtype, tile, absl::MakeSpan(values));
      AddScaled(1.0F, tau, absl::MakeSpan(values));
      FromFloats(dtype, values, tile);
      first += static_cast<int64_t>(n);
      bytes.remove_prefix(n * width);
    }
    return absl::OkStatus();
  }

 private:
  const CodedTensor* Coded(absl::string_view tensor) const {
    const TouchedTensor* touched = Find(tensor);
    return touched == nullptr
               ? nullptr
               : &tensors_[static_cast<size_t>(touched - touched_.data())];
  }

  const SharedSource file_;
  const std::vector<TouchedTensor> touched_;
  const std::vector<CodedTensor> tensors_;  // in the order of touched()
  const CodedFormat format_;
  const std::string base_digest_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Update>> OpenCodedUpdate(
    SharedSource file, const SafetensorsHeader& header,
    const CodedFormat& format, const PositionMask* mask) {
  CAIRN_ASSIGN_OR_RETURN(std::vector<CodedTensor> tensors,
                         ReadCodedTensors(file, header, mask));
  const std::string base = header.metadata().at("cairn.base");
  if (tensors[0].is_replacement()) {
    if (absl::string_view(format.name) != "sparse") {
      return MalformedTensor(tensors[0].spec.name,
                             "has replacement values, which only sparse "
                             "updates have");
    }
    return std::make_unique<CodedReplacement>(std::move(file),
                                              std::move(tensors), format, base);
  }
  return std::make_unique<CodedDifference>(std::move(file), std::move(tensors),
                                           format, base);
}

}  // namespace cairn
