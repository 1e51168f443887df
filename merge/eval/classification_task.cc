#include "merge/eval/classification_task.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/tensor/torch_bridge.h"

namespace cairn {
namespace {

at::Tensor TensorOrNone(const std::vector<int64_t>& values) {
  return values.empty() ? at::Tensor() : IdTensor(values);
}

absl::Status CheckTypes(const ClassificationItem& item, int64_t token_types) {
  for (int64_t type : item.types) {
    if (type < std::max<int64_t>(1, token_types)) continue;
    return UnfitItem(
        item, absl::StrCat("`token_type_ids` holds ", type, "; the model has ",
                           token_types, " types of tokens"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ClassificationTask::CheckFits(const Model& model) const {
  if (model.text_classifier() == nullptr) {
    return NoHead(model, answer_.kind(), "a model with a text classifier");
  }
  const TextClassifier::Traits& traits = model.text_classifier()->traits();
  for (const ClassificationItem& item : items_) {
    if (item.ids.empty()) {
      return UnfitItem(item,
                       absl::StrCat("`pixel_values` are an image, which ",
                                    model.architecture(), " does not take"));
    }
    CAIRN_RETURN_IF_ERROR(
        CheckVocabulary(traits.limits, item, "input_ids", item.ids));
    CAIRN_RETURN_IF_ERROR(CheckInputLength(
        traits.limits, item, static_cast<int64_t>(item.ids.size())));
    CAIRN_RETURN_IF_ERROR(CheckTypes(item, traits.token_types));
    CAIRN_RETURN_IF_ERROR(answer_.Check(item, traits.labels));
  }
  return absl::OkStatus();
}

int64_t ClassificationTask::Cost(int64_t item) const {
  return static_cast<int64_t>(items_[static_cast<size_t>(item)].ids.size());
}

absl::StatusOr<ItemScore> ClassificationTask::Score(const Model& model,
                                                    const at::Tensor&,
                                                    int64_t item) const {
  const ClassificationItem& it = items_[static_cast<size_t>(item)];
  return CatchTorch("scoring", [&]() -> absl::StatusOr<ItemScore> {
    const c10::InferenceMode no_gradients;
    CAIRN_ASSIGN_OR_RETURN(
        const at::Tensor logits,
        model.text_classifier()->Classify({.ids = IdTensor(it.ids),
                                           .mask = TensorOrNone(it.mask),
                                           .types = TensorOrNone(it.types)}));
    return answer_.Score(it, logits);
  });
}

std::map<std::string, double> ClassificationTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  return answer_.Metrics(scores);
}

}  // namespace cairn
