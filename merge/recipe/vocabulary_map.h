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

  int64_t size = 0;
  // rows[m][r]: the row of model m; negative: it has none.
  std::vector<std::vector<int32_t>> rows;
  // What stands in for a row that a model has not: the row of a model, zeros,
  // or the mean of those that have it.
  std::vector<int32_t> donors;

  // Whether a model with so many rows has them in this order already.
  bool IsIdentity(size_t model, int64_t model_rows) const;
};

// A model's tokenizer, and how many rows its embeddings have.
struct ModelVocabulary {
  const TokenizerFile* tokenizer = nullptr;
  int64_t rows = 0;
};

// `from`: the model whose tokenizer the common one was made of, which also has
// the rows that no token stands for. `base`: see AlignVocabularies().
VocabularyMap MapVocabularies(const TokenizerFile& common,
                              const std::vector<ModelVocabulary>& models,
                              size_t from, std::optional<size_t> base);

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
