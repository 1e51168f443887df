#ifndef CAIRN_MERGE_RECIPE_RECIPE_H_
#define CAIRN_MERGE_RECIPE_RECIPE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/update/strategies.h"

namespace cairn {

// A merge recipe in mergekit's YAML, as it is written.

// The value of a parameter: a number (true is 1), or numbers that are spread
// evenly over the layers of a slice and interpolated between.
using Gradient = std::vector<double>;
// A value for the tensors whose names contain `filter`; "" and "*" are all.
struct FilteredValue {
  std::string filter;
  Gradient value;  // one number, or several
};
// Tried in order; the first that matches counts.
using ParameterSetting = std::vector<FilteredValue>;
using ParameterSettings = std::map<std::string, ParameterSetting>;

// The value of a setting for a tensor at position t (0 to 1) among the layers;
// none when no filter matches.
std::optional<double> EvaluateSetting(const ParameterSetting& setting,
                                      absl::string_view tensor, double t);

// A model and, of its layers, a range.
struct RecipeSource {
  std::string model;                                  // as written
  std::optional<std::pair<int64_t, int64_t>> layers;  // [first, last)
  ParameterSettings parameters;
  std::map<std::string, std::string> files = {};  // parameters that name one
};

// Some layers of the result: layer i is made of layer i of every source.
struct RecipeSlice {
  std::vector<RecipeSource> sources;
  std::string base_model;  // empty: the recipe's
  ParameterSettings parameters;
};

// Where a row of a vocabulary comes from when a model has none for a token.
struct TokenRule {
  enum class From {
    kNothing,  // nothing is said: such a model is an error
    kZeros,
    kModel,  // the row that `model` has for the token
    kToken,  // the row that `model` has for the token `other`
    kRow,    // row number `row` of `model`
  };
  std::string token;
  From from = From::kNothing;
  std::string model = {};
  std::string other = {};
  int64_t row = 0;
  bool is_for_all = false;  // of models that have a row, too
};

struct Recipe {
  std::string name;  // of a document that others use
  std::string method;
  std::string base_model;  // may be empty
  // Exactly one of the two is not empty. `models` are whole models.
  std::vector<RecipeSource> models;
  std::vector<RecipeSlice> slices;
  ParameterSettings module_parameters;
  ParameterSettings parameters;
  std::string dtype, out_dtype;    // "" or a name such as "bfloat16"
  std::string tokenizer_source;    // "", "base", "union" or a model
  std::vector<TokenRule> tokens;   // those that the tokenizer lacks join it
  int64_t pad_to_multiple_of = 0;  // of the rows of vocabularies; 0: as many
                                   // as there are tokens
  std::string chat_template;       // "", "auto", a name or the text itself
  // clip_norm, duplicates and duplicate_cosine, which mergekit has not.
  UpdateCare care;
};

// The models that a recipe names, each once, its base first.
std::vector<std::string> ModelsOf(const Recipe& recipe);

enum class UnknownKeys { kRefuse, kWarn };

// Reads the documents of a recipe. INVALID_ARGUMENT naming `label`, the line
// and the key for what cannot be read: YAML that is none, an unknown key (a
// line in `warnings` instead under kWarn), a value of another type, a method
// or a parameter that there is not, a number out of range.
absl::StatusOr<std::vector<Recipe>> ParseRecipe(
    absl::string_view text, absl::string_view label, UnknownKeys unknown_keys,
    std::vector<std::string>& warnings);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_RECIPE_H_
