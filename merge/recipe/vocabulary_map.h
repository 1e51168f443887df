#ifndef CAIRN_MERGE_RECIPE_VOCABULARY_MAP_H_
#define CAIRN_MERGE_RECIPE_VOCABULARY_MAP_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "core/update/tensor_effect.h"
#include "merge/engine/model_source.h"
#include "merge/recipe/tokenizer_file.h"

namespace cairn {

// Which row of which model becomes which row of a common vocabulary.
struct VocabularyMap {
  static constexpr int32_t kZeros = -1;
  static constexpr int32_t kMean = -2;

  // What stands in for a row that a model has not.
  struct Donor {
    int32_t model = kZeros;   // or kMean: of those that have the row
    int32_t row = 0;          // of that model
    bool is_for_all = false;  // of models that have the row, too
    bool operator==(const Donor&) const = default;
  };

  int64_t size = 0;
  // Rows before those that are there to round the size up, each of which is
  // the mean of the model's rows before them.
  int64_t filled = 0;
  // rows[m][r]: the row of model m; negative: it has none. Of filled rows.
  std::vector<std::vector<int32_t>> rows;
  std::vector<Donor> donors;  // of filled rows

  // Whether a model with so many rows has them in this order already.
  bool IsIdentity(size_t model, int64_t model_rows) const;
};

// A model's tokenizer, and how many rows its embeddings have.
struct ModelVocabulary {
  const TokenizerFile* tokenizer = nullptr;
  int64_t rows = 0;
  bool is_merged = true;  // false: it lends its tokenizer, and no rows
};

// `from`: the model whose tokenizer the common one was made of, which also has
// the rows that no token stands for. `base`: see AlignVocabularies(). Not
// rounded up.
VocabularyMap MapVocabularies(const TokenizerFile& common,
                              const std::vector<ModelVocabulary>& models,
                              size_t from, std::optional<size_t> base);

// Rounds the size up.
void PadVocabulary(int64_t multiple, VocabularyMap& map);

// A tensor of each model; null where a model has not got it.
struct VocabularyTensors {
  std::vector<std::shared_ptr<const ModelSource>> models;
  std::vector<const SourceTensor*> tensors;
};

// Fills a tensor of `map.size` rows for one of the models.
std::shared_ptr<const TensorEffect> MakeAlignedEffect(
    std::shared_ptr<const VocabularyMap> map,
    std::shared_ptr<const VocabularyTensors> tensors, size_t model);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_VOCABULARY_MAP_H_
