#include "core/update/update_statistics.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/digest.h"
#include "core/base/json_value.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "core/tensor/tensor_manifest.h"
#include "core/update/base_model.h"
#include "core/update/tensor_effect.h"

namespace cairn {
namespace {

constexpr char kFisher[] = "fisher/";
constexpr char kFisherRows[] = "fisher.rows/";
constexpr char kFisherColumns[] = "fisher.columns/";
constexpr char kGram[] = "gram/";
constexpr int64_t kTileElements = 1 << 16;
// Both halves of a larger matrix are not held while a merge solves for it.
constexpr int64_t kGramSizeMax = 1 << 16;

absl::Status Refuse(absl::string_view reason, absl::string_view tensor,
                    absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, reason,
      absl::StrCat(kStatisticsFile, ": ", JsonQuote(tensor), " ", what),
      {{"file", kStatisticsFile}, {"tensor", std::string(tensor)}});
}

absl::Status Malformed(absl::string_view field, absl::string_view what) {
  return ReasonedError(
      absl::StatusCode::kInvalidArgument, "MALFORMED_FILE",
      absl::StrCat(kStatisticsFile, ": __metadata__ ", field, " ", what),
      {{"file", kStatisticsFile}, {"field", std::string(field)}});
}

// n of n (n + 1) / 2; none for another number.
std::optional<int64_t> SideOf(int64_t elements) {
  const auto n = static_cast<int64_t>(
      (std::sqrt(8.0 * static_cast<double>(elements) + 1) - 1) / 2);
  for (int64_t side = std::max<int64_t>(1, n - 1); side <= n + 1; ++side) {
    if (side * (side + 1) / 2 == elements) return side;
  }
  return std::nullopt;
}

int64_t TailOf(const v1::Tensor& tensor) {
  int64_t product = 1;
  for (int i = 1; i < tensor.shape_size(); ++i) product *= tensor.shape(i);
  return product;
}

}  // namespace

absl::StatusOr<std::unique_ptr<UpdateStatistics>> UpdateStatistics::Open(
    SharedSource file) {
  CAIRN_ASSIGN_OR_RETURN(const SafetensorsHeader header,
                         SafetensorsHeader::Read(*file, kStatisticsFile));
  const auto text = [&](const char* key) {
    const auto found = header.metadata().find(key);
    return found == header.metadata().end() ? std::string() : found->second;
  };
  if (text("cairn.format") != "statistics" || text("cairn.version") != "1") {
    return ReasonedError(
        absl::StatusCode::kInvalidArgument, "UNKNOWN_FORMAT",
        absl::StrCat(kStatisticsFile,
                     ": __metadata__ must have cairn.format \"statistics\" "
                     "and cairn.version \"1\""),
        {{"file", kStatisticsFile}});
  }
  std::unique_ptr<UpdateStatistics> out(new UpdateStatistics(std::move(file)));
  out->base_digest_ = text("cairn.base");
  if (!out->base_digest_.empty() &&
      (!absl::StartsWith(out->base_digest_, "sha256:") ||
       !Digest::Parse(out->base_digest_).ok())) {
    return Malformed("cairn.base", "must be \"sha256:\" and 64 hex digits");
  }
  for (const TensorEntry& entry : header.tensors()) {
    CAIRN_RETURN_IF_ERROR(out->AddTensor(entry));
  }
  CAIRN_RETURN_IF_ERROR(out->ReadGrams(text("cairn.grams")));
  CAIRN_RETURN_IF_ERROR(out->Finish());
  return out;
}

absl::Status UpdateStatistics::AddTensor(const TensorEntry& entry) {
  if (!IsNumeric(entry.dtype)) {
    return Refuse("DTYPE_MISMATCH", entry.name,
                  absl::StrCat("is ", DTypeName(entry.dtype),
                               "; it must be F32, F16 or BF16"));
  }
  entries_.push_back(entry);
  absl::string_view name = entry.name;
  if (absl::ConsumePrefix(&name, kGram)) {
    const auto side = SideOf(entry.elements());
    if (entry.shape.size() != 1 || !side || *side > kGramSizeMax) {
      return Refuse("SHAPE_MISMATCH", entry.name,
                    absl::StrCat("has the shape ", ShapeText(entry.shape),
                                 "; the lower half of a matrix of n rows is a "
                                 "vector of n (n + 1) / 2, n at most ",
                                 kGramSizeMax));
    }
    grams_[std::string(name)] = {.entry = entry, .size = *side};
    return absl::OkStatus();
  }
  const bool is_rows = absl::ConsumePrefix(&name, kFisherRows);
  const bool is_columns =
      !is_rows && absl::ConsumePrefix(&name, kFisherColumns);
  if (!is_rows && !is_columns && !absl::ConsumePrefix(&name, kFisher)) {
    return Refuse("MALFORMED_FILE", entry.name,
                  absl::StrCat("begins with none of ", kFisher, ", ",
                               kFisherRows, ", ", kFisherColumns, " and ",
                               kGram));
  }
  Fisher& fisher = fishers_[std::string(name)];
  if (!is_rows && !is_columns) {
    fisher.whole = entry;
    return absl::OkStatus();
  }
  if (entry.shape.size() != 1) {
    return Refuse("SHAPE_MISMATCH", entry.name,
                  absl::StrCat("has the shape ", ShapeText(entry.shape),
                               "; sums of rows or columns are a vector"));
  }
  (is_rows ? fisher.rows : fisher.columns) = entry;
  return absl::OkStatus();
}

absl::Status UpdateStatistics::ReadGrams(const std::string& json) {
  if (json.empty()) return absl::OkStatus();
  const auto list = JsonValue::Parse(json, kStatisticsFile);
  if (!list.ok()) return list.status();
  if (list->as_object() == nullptr) {
    return Malformed("cairn.grams", "must be an object of texts");
  }
  for (const auto& [tensor, id] : *list->as_object()) {
    if (id.as_string() == nullptr || !grams_.contains(*id.as_string())) {
      return Malformed("cairn.grams",
                       absl::StrCat("gives ", JsonQuote(tensor),
                                    " a matrix that is not in the file"));
    }
    gram_of_[tensor] = *id.as_string();
  }
  return absl::OkStatus();
}

absl::Status UpdateStatistics::Finish() {
  if (entries_.empty()) return Malformed("", "stands without any tensor");
  for (auto& [name, fisher] : fishers_) {
    if (fisher.whole.has_value() == fisher.rows.has_value() ||
        fisher.rows.has_value() != fisher.columns.has_value()) {
      return Refuse("MALFORMED_FILE", name,
                    absl::StrCat("must have either ", kFisher, " or both ",
                                 kFisherRows, " and ", kFisherColumns));
    }
    if (!fisher.columns.has_value()) continue;
    std::vector<float> sums(static_cast<size_t>(fisher.columns->elements()));
    CAIRN_RETURN_IF_ERROR(Read(*fisher.columns, 0, absl::MakeSpan(sums)));
    for (const float sum : sums) fisher.total += static_cast<double>(sum);
  }
  std::set<std::string> used;
  for (const auto& [tensor, id] : gram_of_) used.insert(id);
  for (const auto& [id, gram] : grams_) {
    if (used.contains(id)) continue;
    return Refuse("MALFORMED_FILE", gram.entry.name,
                  "belongs to no tensor of cairn.grams");
  }
  return absl::OkStatus();
}

absl::Status UpdateStatistics::CheckAgainstBase(
    const v1::TensorManifest& base, absl::string_view base_digest) const {
  if (!base_digest_.empty() && !base_digest.empty() &&
      base_digest_ != base_digest) {
    return ReasonedError(
        absl::StatusCode::kFailedPrecondition, "BASE_DIGEST_MISMATCH",
        absl::StrCat(kStatisticsFile, " is about the base ", base_digest_,
                     ", not about ", base_digest),
        {{"measured", base_digest_}, {"expected", std::string(base_digest)}});
  }
  const auto find = [&](const std::string& name)
      -> absl::StatusOr<const v1::Tensor*> {
    const v1::Tensor* tensor = FindTensor(base, name);
    if (tensor != nullptr) return tensor;
    return Refuse("UNKNOWN_TENSOR", name,
                  absl::StrCat("is no tensor of the base; nearest are ",
                               NearestNames(base, name)));
  };
  for (const auto& [name, fisher] : fishers_) {
    CAIRN_ASSIGN_OR_RETURN(const v1::Tensor* tensor, find(name));
    const std::vector<int64_t> shape(tensor->shape().begin(),
                                     tensor->shape().end());
    const bool fits =
        fisher.whole.has_value()
            ? fisher.whole->shape == shape
            : !shape.empty() && fisher.rows->elements() == shape[0] &&
                  fisher.columns->elements() == TailOf(*tensor);
    if (fits) continue;
    return Refuse("SHAPE_MISMATCH", name,
                  absl::StrCat("has a Fisher diagonal of another shape than "
                               "the base's ",
                               ShapeText(shape)));
  }
  for (const auto& [name, id] : gram_of_) {
    CAIRN_ASSIGN_OR_RETURN(const v1::Tensor* tensor, find(name));
    const int64_t size = grams_.at(id).size;
    if (tensor->shape_size() >= 2 &&
        (TailOf(*tensor) == size || tensor->shape(0) == size)) {
      continue;
    }
    return Refuse("SHAPE_MISMATCH", name,
                  absl::StrCat("has a Gram matrix of ", size,
                               " rows, which is no side of it in the base"));
  }
  return absl::OkStatus();
}

absl::Status UpdateStatistics::CheckValues() const {
  std::vector<float> values;
  for (const TensorEntry& entry : entries_) {
    const bool is_fisher = !absl::StartsWith(entry.name, kGram);
    for (int64_t first = 0; first < entry.elements(); first += kTileElements) {
      values.resize(static_cast<size_t>(
          std::min(kTileElements, entry.elements() - first)));
      CAIRN_RETURN_IF_ERROR(Read(entry, first, absl::MakeSpan(values)));
      for (const float value : values) {
        if (!std::isfinite(value)) {
          return Refuse("NON_FINITE", entry.name, "holds a NaN or an infinity");
        }
        if (is_fisher && value < 0) {
          return Refuse("MALFORMED_FILE", entry.name,
                        "holds a value below 0, which no mean of squares is");
        }
      }
    }
  }
  for (const auto& [id, gram] : grams_) {
    for (int64_t i = 0; i < gram.size; ++i) {
      float value = 0;
      CAIRN_RETURN_IF_ERROR(Read(gram.entry, i * (i + 1) / 2 + i,
                                 absl::MakeSpan(&value, 1)));
      if (value >= 0) continue;
      return Refuse("MALFORMED_FILE", gram.entry.name,
                    absl::StrCat("has a value below 0 on its diagonal, in row ",
                                 i, ", which no sum of squares is"));
    }
  }
  return absl::OkStatus();
}

absl::Status UpdateStatistics::Read(const TensorEntry& entry, int64_t first,
                                    absl::Span<float> out) const {
  const auto bytes =
      MakeSliceSource(file_, entry.begin, entry.end - entry.begin);
  return BaseValues{.dtype = entry.dtype, .bytes = bytes.get()}.Read(first,
                                                                     out);
}

bool UpdateStatistics::HasFisher(absl::string_view tensor) const {
  return fishers_.find(tensor) != fishers_.end();
}

absl::Status UpdateStatistics::ReadFisher(absl::string_view tensor,
                                          int64_t first, int64_t columns,
                                          absl::Span<float> out) const {
  const auto found = fishers_.find(tensor);
  if (found == fishers_.end()) {
    return absl::NotFoundError(
        absl::StrCat("there is no Fisher diagonal of tensor ", tensor));
  }
  const Fisher& fisher = found->second;
  if (fisher.whole.has_value()) return Read(*fisher.whole, first, out);
  // The rank-1 matrix with these sums of rows and columns.
  std::vector<float> row_sums, column_sums(static_cast<size_t>(columns));
  CAIRN_RETURN_IF_ERROR(
      Read(*fisher.columns, 0, absl::MakeSpan(column_sums)));
  const int64_t last = first + static_cast<int64_t>(out.size()) - 1;
  row_sums.resize(static_cast<size_t>(last / columns - first / columns + 1));
  CAIRN_RETURN_IF_ERROR(
      Read(*fisher.rows, first / columns, absl::MakeSpan(row_sums)));
  const auto factor = static_cast<float>(
      fisher.total > 0 ? 1.0 / fisher.total : 0.0);
  const int64_t first_row = first / columns;
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t at = first + static_cast<int64_t>(i);
    out[i] = row_sums[static_cast<size_t>(at / columns - first_row)] *
             column_sums[static_cast<size_t>(at % columns)] * factor;
  }
  return absl::OkStatus();
}

std::optional<int64_t> UpdateStatistics::GramSize(
    absl::string_view tensor) const {
  const auto id = gram_of_.find(tensor);
  if (id == gram_of_.end()) return std::nullopt;
  return grams_.find(id->second)->second.size;
}

absl::StatusOr<std::vector<float>> UpdateStatistics::ReadGram(
    absl::string_view tensor) const {
  const auto id = gram_of_.find(tensor);
  if (id == gram_of_.end()) {
    return absl::NotFoundError(
        absl::StrCat("there is no Gram matrix for tensor ", tensor));
  }
  const TensorEntry& entry = grams_.find(id->second)->second.entry;
  std::vector<float> half(static_cast<size_t>(entry.elements()));
  CAIRN_RETURN_IF_ERROR(Read(entry, 0, absl::MakeSpan(half)));
  return half;
}

}  // namespace cairn
