#include "merge/eval/perplexity_task.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"
#include "merge/eval/text_size.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<Task>> PerplexityTask::Create(
    std::vector<PerplexityItem> items, absl::string_view metric) {
  if (metric != "perplexity") {
    for (const PerplexityItem& item : items) {
      if (item.text.has_value()) continue;
      return DamagedItem(item, absl::StrCat("`text` is missing; metric ",
                                            metric, " divides by its size"));
    }
  }
  return std::unique_ptr<Task>(new PerplexityTask(std::move(items)));
}

PerplexityTask::PerplexityTask(std::vector<PerplexityItem> items)
    : items_(std::move(items)) {
  for (const PerplexityItem& item : items_) {
    if (!item.text.has_value()) {
      text_bytes_ = text_words_ = 0;
      return;
    }
    text_bytes_ += static_cast<int64_t>(item.text->size());
    text_words_ += CountWords(*item.text);
  }
}

int64_t PerplexityTask::size() const {
  return static_cast<int64_t>(items_.size());
}

int64_t PerplexityTask::Cost(int64_t item) const {
  return static_cast<int64_t>(items_[static_cast<size_t>(item)].ids.size());
}

absl::Status PerplexityTask::CheckFits(const Model& model) const {
  CAIRN_ASSIGN_OR_RETURN(const LanguageModel* language,
                         RequireLanguage(model, "perplexity"));
  const TextLimits& limits = language->traits().limits;
  for (const PerplexityItem& item : items_) {
    CAIRN_RETURN_IF_ERROR(CheckVocabulary(limits, item, "input_ids", item.ids));
    CAIRN_RETURN_IF_ERROR(CheckInputLength(
        limits, item, static_cast<int64_t>(item.ids.size()) - 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<ItemScore> PerplexityTask::Score(const Model& model,
                                                const at::Tensor&,
                                                int64_t item) const {
  const PerplexityItem& it = items_[static_cast<size_t>(item)];
  const absl::StatusOr<double> sum = ScoreText(*model.language(), it.ids);
  if (!sum.ok()) return Annotate(sum.status(), it.where);
  ItemScore score;
  score.id = it.id;
  score.group = it.group;
  score.logprob_sum = *sum;
  score.tokens = static_cast<int64_t>(it.ids.size()) - 1;
  return score;
}

std::map<std::string, double> PerplexityTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  double sum = 0;
  int64_t tokens = 0;
  for (const ItemScore& score : scores) {
    sum += score.logprob_sum;
    tokens += score.tokens;
  }
  std::map<std::string, double> metrics;
  metrics["perplexity"] = std::exp(-sum / static_cast<double>(tokens));
  if (text_bytes_ > 0) {
    const double per_byte = -sum / static_cast<double>(text_bytes_);
    metrics["bits_per_byte"] = per_byte / std::numbers::ln2;
    metrics["byte_perplexity"] = std::exp(per_byte);
    metrics["word_perplexity"] =
        std::exp(-sum / static_cast<double>(text_words_));
  }
  return metrics;
}

}  // namespace cairn
