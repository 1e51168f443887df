#include "merge/eval/classification_task.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>

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

absl::Status CheckLabel(const ClassificationItem& item, int64_t labels) {
  if (item.label < labels) return absl::OkStatus();
  return UnfitItem(item,
                   absl::StrCat("`label` ", item.label, " is past the model's ",
                                labels, " classes, which count from 0"));
}

absl::StatusOr<ItemScore> ScoreClasses(const ClassificationItem& item,
                                       const at::Tensor& logits) {
  const at::Tensor scores =
      at::log_softmax(logits, -1).to(at::kCPU).to(at::kDouble).contiguous();
  ItemScore score;
  score.id = item.id;
  score.group = item.group;
  score.choice_logprobs.assign(scores.data_ptr<double>(),
                               scores.data_ptr<double>() + scores.numel());
  const std::vector<double>& all = score.choice_logprobs;
  if (std::any_of(all.begin(), all.end(),
                  [](double value) { return std::isnan(value); })) {
    return ReasonedError(absl::StatusCode::kDataLoss, "NON_FINITE",
                         absl::StrCat(item.where,
                                      ": the model's logits are not finite: "
                                      "its weights are too large or damaged"));
  }
  score.logprob_sum = all[static_cast<size_t>(item.label)];
  score.tokens = 1;
  score.is_correct =
      std::max_element(all.begin(), all.end()) - all.begin() == item.label;
  return score;
}

absl::Status ClassificationTask::CheckFits(const Model& model) const {
  if (model.text_classifier() == nullptr) {
    return NoHead(model, "classification", "a model with a text classifier");
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
    CAIRN_RETURN_IF_ERROR(CheckLabel(item, traits.labels));
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
    return ScoreClasses(it, logits);
  });
}

std::map<std::string, double> ClassificationTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  return {{"acc", Accuracy(scores)}};
}

}  // namespace cairn
