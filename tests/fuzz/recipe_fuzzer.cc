// Any bytes as a recipe: refused, or a plan for models that the names a, b
// and c stand for, refused or made from headers alone.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/log.h"
#include "core/base/status_util.h"
#include "merge/recipe/recipe_plan.h"

namespace {

absl::StatusOr<std::shared_ptr<cairn::ModelSource>> Open(
    const std::string& model) {
  if (model != "a" && model != "b" && model != "c") {
    return absl::NotFoundError(model);
  }
  std::vector<cairn::TensorSpec> tensors;
  for (const char* name :
       {"model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight",
        "model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
    tensors.push_back(
        {.name = name, .dtype = cairn::DType::kBF16, .shape = {4, 2}});
  }
  return std::make_shared<cairn::ModelSource>(cairn::ModelSource::Planned(
      model, std::move(tensors), R"({"num_hidden_layers":2})"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto unknown :
       {cairn::UnknownKeys::kRefuse, cairn::UnknownKeys::kWarn}) {
    std::vector<std::string> warnings;
    const auto recipes =
        cairn::ParseRecipe(text, "recipe.yaml", unknown, warnings);
    if (!recipes.ok()) {
      CAIRN_CHECK(absl::IsInvalidArgument(recipes.status()));
      continue;
    }
    CAIRN_CHECK(!recipes->empty());
    for (const cairn::Recipe& recipe : *recipes) {
      const auto plan = cairn::PlanRecipe(recipe, {}, Open);
      CAIRN_CHECK(plan.ok() || !plan.status().message().empty());
    }
  }
  return 0;
}
