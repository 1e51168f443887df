#ifndef CAIRN_MERGE_RECIPE_VOCABULARY_ALIGNMENT_H_
#define CAIRN_MERGE_RECIPE_VOCABULARY_ALIGNMENT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "merge/recipe/recipe.h"
#include "merge/recipe/recipe_plan.h"

namespace cairn {

// Models whose embeddings and heads have one row a token of one vocabulary.
struct AlignedModels {
  // By the names that the recipe has for them. Where a vocabulary is already
  // the common one the model is as it was.
  std::map<std::string, std::shared_ptr<ModelSource>> models;
  // Rows of the vocabulary; none when no model changed.
  std::optional<int64_t> vocab_size;
  // The model whose tokenizer and other files come along ...
  std::shared_ptr<const ModelSource> like;
  // ... but for these, by path.
  std::map<std::string, std::string> files;
  std::vector<std::string> warnings;
};

// Opens the models of a recipe with a tokenizer_source and brings their rows
// into the order of that tokenizer: the base's, a model's, or the union by
// token, in which the base's tokens keep their numbers and those that it has
// not follow, model after model in the order of the recipe, by number. A token
// that a model lacks gets the row of the only model that has it, else of the
// base, else the mean of those that have it; zeros when nobody has
// (as mergekit does); or what the recipe's `tokens` say. Rows that are there
// to round their number up are the mean of a model's others. INVALID_ARGUMENT
// naming the model for a tokenizer that is missing or cannot be read, naming
// the token for a rule that does not fit.
absl::StatusOr<AlignedModels> AlignVocabularies(const Recipe& recipe,
                                                const SourceOpener& open);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_VOCABULARY_ALIGNMENT_H_
