#include "merge/recipe/vocabulary_map.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/status_macros.h"

namespace cairn {
namespace {

// Elements of the rows whose mean is taken that are read at once.
constexpr int64_t kMeanTileElements = 1 << 18;

struct LoadedTensors : VocabularyTensors {
  std::vector<SourceTensor> own;
};

class AlignedEffect : public TensorEffect {
 public:
  AlignedEffect(std::shared_ptr<const VocabularyMap> map,
                std::shared_ptr<const VocabularyTensors> tensors, size_t model)
      : map_(std::move(map)), tensors_(std::move(tensors)), model_(model) {
    const std::vector<int64_t>& shape = tensors_->tensors[model_]->spec.shape;
    for (size_t i = 1; i < shape.size(); ++i) columns_ *= shape[i];
  }

  absl::Status Apply(int64_t first, absl::Span<float> values) const override {
    std::vector<char> raw;
    while (!values.empty()) {
      const int64_t row = first / columns_, column = first % columns_;
      size_t count = 0;
      const int32_t own = Own(row);
      if (own >= 0) {
        // As far as rows lie one after the other in the model, too.
        int64_t rows = 1;
        while (row + rows < map_->filled &&
               rows * columns_ - column < static_cast<int64_t>(values.size()) &&
               Own(row + rows) == own + rows) {
          ++rows;
        }
        count = std::min(values.size(),
                         static_cast<size_t>(rows * columns_ - column));
        CAIRN_RETURN_IF_ERROR(
            ReadRow(model_, own, column, values.subspan(0, count), raw));
      } else {
        count = std::min(values.size(), static_cast<size_t>(columns_ - column));
        CAIRN_RETURN_IF_ERROR(
            FillIn(row, column, values.subspan(0, count), raw));
      }
      first += static_cast<int64_t>(count);
      values.remove_prefix(count);
    }
    return absl::OkStatus();
  }

  absl::Status AddChange(int64_t first, absl::Span<const float> base,
                         float weight, absl::Span<float> sum) const override {
    std::vector<float> aligned(base.size());
    CAIRN_RETURN_IF_ERROR(Apply(first, absl::MakeSpan(aligned)));
    for (size_t i = 0; i < aligned.size(); ++i) {
      sum[i] += weight * (aligned[i] - base[i]);
    }
    return absl::OkStatus();
  }

  int64_t memory_bytes() const override {
    int64_t bytes = map_->size * static_cast<int64_t>(sizeof(int32_t));
    for (const SourceTensor* tensor : tensors_->tensors) {
      if (tensor != nullptr && tensor->effect != nullptr) {
        bytes += tensor->effect->memory_bytes();
      }
    }
    return bytes;
  }

  absl::StatusOr<Effect> Load() const override {
    auto loaded = std::make_shared<LoadedTensors>();
    loaded->models = tensors_->models;
    loaded->own.reserve(tensors_->tensors.size());
    for (const SourceTensor* tensor : tensors_->tensors) {
      if (tensor != nullptr) {
        CAIRN_ASSIGN_OR_RETURN(loaded->own.emplace_back(), tensor->Loaded());
        tensor = &loaded->own.back();
      }
      loaded->tensors.push_back(tensor);
    }
    return std::make_shared<AlignedEffect>(map_, std::move(loaded), model_);
  }

 private:
  int32_t Own(int64_t row) const {
    const auto at = static_cast<size_t>(row);
    if (row >= map_->filled || map_->donors[at].is_for_all) return -1;
    return map_->rows[model_][at];
  }

  absl::Status ReadRow(size_t model, int32_t row, int64_t column,
                       absl::Span<float> out, std::vector<char>& raw) const {
    return tensors_->models[model]->Read(*tensors_->tensors[model],
                                         row * columns_ + column, out, raw);
  }

  absl::Status FillIn(int64_t row, int64_t column, absl::Span<float> out,
                      std::vector<char>& raw) const {
    if (row >= map_->filled) return MeanOfRows(column, out);
    const auto at = static_cast<size_t>(row);
    const VocabularyMap::Donor& donor = map_->donors[at];
    std::fill(out.begin(), out.end(), 0.0f);
    if (donor.model == VocabularyMap::kZeros) return absl::OkStatus();
    if (donor.model >= 0) {
      const auto model = static_cast<size_t>(donor.model);
      if (tensors_->tensors[model] == nullptr) return absl::OkStatus();
      return ReadRow(model, donor.row, column, out, raw);
    }
    std::vector<float> one(out.size());
    float count = 0;
    for (size_t m = 0; m < map_->rows.size(); ++m) {
      const int32_t own = map_->rows[m][at];
      if (own < 0 || tensors_->tensors[m] == nullptr) continue;
      CAIRN_RETURN_IF_ERROR(ReadRow(m, own, column, absl::MakeSpan(one), raw));
      for (size_t i = 0; i < one.size(); ++i) out[i] += one[i];
      ++count;
    }
    for (float& value : out) value /= std::max(count, 1.0f);
    return absl::OkStatus();
  }

  // Of the filled rows of this model, in double precision, row after row.
  absl::Status MeanOfRows(int64_t column, absl::Span<float> out) const {
    const int64_t rows = std::max<int64_t>(1, kMeanTileElements / columns_);
    std::vector<double> sums(out.size());
    std::vector<float> tile;
    for (int64_t row = 0; row < map_->filled; row += rows) {
      const int64_t count = std::min(rows, map_->filled - row);
      tile.assign(static_cast<size_t>(count * columns_), 0.0f);
      CAIRN_RETURN_IF_ERROR(Apply(row * columns_, absl::MakeSpan(tile)));
      for (int64_t r = 0; r < count; ++r) {
        const float* values = &tile[static_cast<size_t>(r * columns_ + column)];
        for (size_t i = 0; i < sums.size(); ++i) {
          sums[i] += static_cast<double>(values[i]);
        }
      }
    }
    for (size_t i = 0; i < sums.size(); ++i) {
      out[i] = static_cast<float>(sums[i] / static_cast<double>(map_->filled));
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<const VocabularyMap> map_;
  const std::shared_ptr<const VocabularyTensors> tensors_;
  const size_t model_;
  int64_t columns_ = 1;
};

VocabularyMap::Donor DonorOf(const VocabularyMap& map, size_t row,
                             std::optional<size_t> base) {
  VocabularyMap::Donor only;
  size_t present = 0;
  for (size_t m = 0; m < map.rows.size(); ++m) {
    if (map.rows[m][row] < 0) continue;
    only = {.model = static_cast<int32_t>(m), .row = map.rows[m][row]};
    ++present;
  }
  if (present <= 1) return only;
  if (base.has_value() && map.rows[*base][row] >= 0) {
    return {.model = static_cast<int32_t>(*base), .row = map.rows[*base][row]};
  }
  return {.model = VocabularyMap::kMean};
}

}  // namespace

bool VocabularyMap::IsIdentity(size_t model, int64_t model_rows) const {
  if (model_rows != size || filled != size) return false;
  for (int64_t r = 0; r < size; ++r) {
    const auto at = static_cast<size_t>(r);
    if (rows[model][at] != r || donors[at].is_for_all) return false;
  }
  return true;
}

VocabularyMap MapVocabularies(const TokenizerFile& common,
                              const std::vector<ModelVocabulary>& models,
                              size_t from, std::optional<size_t> base) {
  VocabularyMap map;
  for (const auto& [token, number] : common.tokens()) {
    map.size = std::max(map.size, number + 1);
  }
  map.filled = map.size;
  const auto size = static_cast<size_t>(map.size);
  map.rows.assign(models.size(), std::vector<int32_t>(size, -1));
  std::vector<bool> has_token(size, false);
  for (const auto& [token, number] : common.tokens()) {
    has_token[static_cast<size_t>(number)] = true;
    for (size_t m = 0; m < models.size(); ++m) {
      const auto found = models[m].tokenizer->tokens().find(token);
      if (!models[m].is_merged ||
          found == models[m].tokenizer->tokens().end() ||
          found->second >= models[m].rows) {
        continue;
      }
      map.rows[m][static_cast<size_t>(number)] =
          static_cast<int32_t>(found->second);
    }
  }
  map.donors.reserve(size);
  for (size_t r = 0; r < size; ++r) {
    const bool is_spare = !has_token[r] && models[from].is_merged &&
                          static_cast<int64_t>(r) < models[from].rows;
    if (is_spare) map.rows[from][r] = static_cast<int32_t>(r);
    map.donors.push_back(DonorOf(map, r, base));
  }
  return map;
}

void PadVocabulary(int64_t multiple, VocabularyMap& map) {
  map.size = (map.filled + multiple - 1) / multiple * multiple;
}

std::shared_ptr<const TensorEffect> MakeAlignedEffect(
    std::shared_ptr<const VocabularyMap> map,
    std::shared_ptr<const VocabularyTensors> tensors, size_t model) {
  return std::make_shared<AlignedEffect>(std::move(map), std::move(tensors),
                                         model);
}

}  // namespace cairn
