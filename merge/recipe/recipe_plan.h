#ifndef CAIRN_MERGE_RECIPE_RECIPE_PLAN_H_
#define CAIRN_MERGE_RECIPE_RECIPE_PLAN_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "merge/engine/output_plan.h"
#include "merge/recipe/recipe.h"

namespace cairn {

// Opens a model as a recipe names it.
using SourceOpener = std::function<absl::StatusOr<std::shared_ptr<ModelSource>>(
    const std::string& model)>;

struct RecipeOptions {
  uint64_t seed = 0;
  // Opens a file of statistics that a parameter names; its tensors have the
  // names of those that they are about.
  SourceOpener open_statistics = {};
  // Whose meaning methods have where tools and papers differ.
  Profile profile = Profile::kMergekit;
  // Does what mergekit does where that is not what its recipes say: tensors
  // after the layers are merged of only as many of the last slice's sources as
  // the first slice has.
  bool imitates_mergekit = false;
};

// Plans one document of a recipe from headers alone: which tensors the result
// has, of which inputs each is made, with which parameters. INVALID_ARGUMENT
// naming tensor, model and parameter when inputs do not fit each other or the
// method, or a required parameter is missing.
absl::StatusOr<OutputPlan> PlanRecipe(const Recipe& recipe,
                                      const RecipeOptions& options,
                                      const SourceOpener& open);

}  // namespace cairn

#endif  // CAIRN_MERGE_RECIPE_RECIPE_PLAN_H_
