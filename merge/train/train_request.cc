#include "merge/train/train_request.h"

#include <google/protobuf/util/json_util.h>
#include <torch/version.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/log.h"

namespace cairn {
namespace {

const char* ShapeName(ScheduleShape shape) {
  switch (shape) {
    case ScheduleShape::kConstant:
      return "constant";
    case ScheduleShape::kLinear:
      return "linear";
    case ScheduleShape::kCosine:
      return "cosine";
  }
  return "";
}

}  // namespace

const char* MethodName(TuningMethod method) {
  switch (method) {
    case TuningMethod::kLora:
      return "lora";
    case TuningMethod::kSparse:
      return "sparse";
    case TuningMethod::kFull:
      return "full";
  }
  return "";
}

v1::Recipe MakeRecipe(const TrainRequest& request,
                      const std::string& data_digest, const std::string& base) {
  v1::Recipe recipe;
  recipe.set_seed(static_cast<int64_t>(request.trainer.seed));
  recipe.set_data_digest(data_digest);
  recipe.set_code_version(absl::StrCat("cairn-train ", CAIRN_VERSION));
  (*recipe.mutable_framework_versions())["libtorch"] = TORCH_VERSION;
  auto& parameters = *recipe.mutable_hyperparameters();
  const auto set = [&parameters](const char* name, const auto& value) {
    parameters[name] = absl::StrCat(value);
  };
  const TrainerOptions& trainer = request.trainer;
  set("base", base);
  set("method", MethodName(request.method));
  set("steps", trainer.schedule.steps);
  set("batch", trainer.batch);
  set("window", trainer.window);
  set("learning_rate", trainer.schedule.peak);
  set("schedule", ShapeName(trainer.schedule.shape));
  set("warmup", trainer.schedule.warmup);
  set("norm_max", trainer.norm_max);
  set("optimizer", "adamw");
  set("beta1", trainer.optimizer.beta1);
  set("beta2", trainer.optimizer.beta2);
  set("epsilon", trainer.optimizer.epsilon);
  set("weight_decay", trainer.optimizer.weight_decay);
  set("data_weights",
      absl::StrJoin(request.data, ",",
                    [](std::string* text, const DataFile& file) {
                      absl::StrAppend(text, file.weight);
                    }));
  if (request.method == TuningMethod::kLora) {
    set("rank", request.low_rank.rank);
    set("alpha", request.low_rank.alpha);
    set("rank_stabilised", request.low_rank.rank_stabilised ? "true" : "false");
    set("targets", absl::StrJoin(request.targets, ","));
  } else if (request.method == TuningMethod::kSparse) {
    set("density", request.density);
    set("fisher_batches", request.fisher_batches);
    set("train_embeddings", request.train_embeddings ? "true" : "false");
  }
  return recipe;
}

std::string RecipeJson(const v1::Recipe& recipe) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  std::string json;
  CAIRN_CHECK(
      google::protobuf::util::MessageToJsonString(recipe, &json, options).ok());
  // Maps of messages have no order of their own; keys of this object do.
  return nlohmann::json::parse(json).dump(2) + "\n";
}

}  // namespace cairn
