#include "merge/eval/answer_kind.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/status_util.h"
#include "merge/eval/suite.h"

namespace cairn {
namespace {

absl::StatusOr<std::vector<double>> Values(const ClassificationItem& item,
                                           const at::Tensor& outputs) {
  const at::Tensor flat =
      outputs.to(at::kCPU).to(at::kDouble).flatten().contiguous();
  std::vector<double> values(flat.data_ptr<double>(),
                             flat.data_ptr<double>() + flat.numel());
  if (std::none_of(values.begin(), values.end(),
                   [](double value) { return std::isnan(value); })) {
    return values;
  }
  return ReasonedError(
      absl::StatusCode::kDataLoss, "NON_FINITE",
      absl::StrCat(item.where,
                   ": the model's logits are not finite: its weights are too "
                   "large or damaged"));
}

absl::StatusOr<ItemScore> ScoreClass(const ClassificationItem& item,
                                     const at::Tensor& logits) {
  absl::StatusOr<std::vector<double>> all =
      Values(item, at::log_softmax(logits, -1));
  if (!all.ok()) return all.status();
  ItemScore score;
  score.logprob_sum = (*all)[static_cast<size_t>(item.label)];
  score.is_correct =
      std::max_element(all->begin(), all->end()) - all->begin() == item.label;
  score.choice_logprobs = *std::move(all);
  return score;
}

absl::StatusOr<ItemScore> ScoreNumber(const ClassificationItem& item,
                                      const at::Tensor& outputs,
                                      double variance) {
  absl::StatusOr<std::vector<double>> values = Values(item, outputs);
  if (!values.ok()) return values.status();
  ItemScore score;
  score.prediction = values->front();
  score.points = 1 - std::pow(item.target - values->front(), 2) / variance;
  if (std::isfinite(*score.points)) return score;
  return ReasonedError(
      absl::StatusCode::kDataLoss, "NON_FINITE",
      absl::StrCat(item.where, ": the model says ", values->front(),
                   ", whose error is no finite number"));
}

}  // namespace

absl::StatusOr<AnswerKind> AnswerKind::Numbers(
    absl::Span<const ClassificationItem> items) {
  const auto count = static_cast<double>(items.size());
  double mean = 0, squares = 0;
  for (const ClassificationItem& item : items) mean += item.target / count;
  for (const ClassificationItem& item : items) {
    squares += std::pow(item.target - mean, 2) / count;
  }
  if (squares > 0 && std::isfinite(squares)) return AnswerKind(true, squares);
  return DamagedItem(items.front(),
                     squares > 0
                         ? "`target` and those of the other items are too far "
                           "apart for their variance to be a number"
                         : "`target` is that of every other item; r2 is the "
                           "share of their variance that is explained");
}

absl::Status AnswerKind::Check(const ClassificationItem& item,
                               int64_t outputs) const {
  if (is_number_ && outputs != 1) {
    return UnfitItem(item, absl::StrCat("the model has ", outputs,
                                        " outputs; a regression takes a model "
                                        "with one (`num_labels` 1)"));
  }
  if (is_number_) return absl::OkStatus();
  if (outputs == 1) {
    return UnfitItem(item,
                     "the model has one output, a number and no class; its "
                     "suites are of kind regression");
  }
  if (item.label < outputs) return absl::OkStatus();
  return UnfitItem(item,
                   absl::StrCat("`label` ", item.label, " is past the model's ",
                                outputs, " classes, which count from 0"));
}

absl::StatusOr<ItemScore> AnswerKind::Score(const ClassificationItem& item,
                                            const at::Tensor& outputs) const {
  absl::StatusOr<ItemScore> score = is_number_
                                        ? ScoreNumber(item, outputs, variance_)
                                        : ScoreClass(item, outputs);
  if (!score.ok()) return score;
  score->id = item.id;
  score->group = item.group;
  score->tokens = 1;
  return score;
}

std::map<std::string, double> AnswerKind::Metrics(
    absl::Span<const ItemScore> scores) const {
  if (!is_number_) return {{"acc", Accuracy(scores)}};
  const auto count = static_cast<double>(scores.size());
  double points = 0, absolute = 0;
  for (const ItemScore& score : scores) {
    points += *score.points;
    absolute += std::sqrt((1 - *score.points) * variance_);
  }
  return {{"r2", points / count},
          {"mse", (1 - points / count) * variance_},
          {"mae", absolute / count}};
}

}  // namespace cairn
