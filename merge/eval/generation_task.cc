#include "merge/eval/generation_task.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"
#include "core/base/status_util.h"
#include "merge/eval/continuation.h"

namespace cairn {
namespace {

// Tokens of the input on the side that `count` new tokens extend: the last of
// them is only predicted.
int64_t InputLength(const LanguageModel& model, const GenerationItem& item,
                    int64_t count) {
  return (model.traits().has_encoder
              ? 1
              : static_cast<int64_t>(item.context.size())) +
         count - 1;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Task>> GenerationTask::Create(
    std::vector<GenerationItem> items, TextRules rules,
    std::shared_ptr<const TokenText> text) {
  for (const GenerationItem& item : items) {
    if (rules.is_set() && item.texts.empty()) {
      return DamagedItem(item, "`target` is missing; the suite compares texts");
    }
    if (!rules.is_set() && !item.texts.empty()) {
      return DamagedItem(item,
                         "`target` is a text; the suite compares token ids, "
                         "`target_ids`, unless it has `until`, `filters` or "
                         "`exact_match`");
    }
  }
  return std::unique_ptr<Task>(
      new GenerationTask(std::move(items), std::move(rules), std::move(text)));
}

absl::Status GenerationTask::CheckFits(const Model& model) const {
  CAIRN_ASSIGN_OR_RETURN(const LanguageModel* language,
                         RequireLanguage(model, "generation"));
  const TextLimits& limits = language->traits().limits;
  for (const GenerationItem& item : items_) {
    CAIRN_RETURN_IF_ERROR(
        CheckVocabulary(limits, item, "context_ids", item.context));
    CAIRN_RETURN_IF_ERROR(
        CheckVocabulary(limits, item, "target_ids", item.target));
    CAIRN_RETURN_IF_ERROR(CheckInputLength(
        limits, item, static_cast<int64_t>(item.context.size())));
    CAIRN_RETURN_IF_ERROR(CheckInputLength(
        limits, item,
        InputLength(*language, item, item.new_tokens_max.value_or(1))));
  }
  return absl::OkStatus();
}

int64_t GenerationTask::Cost(int64_t item) const {
  const GenerationItem& it = items_[static_cast<size_t>(item)];
  return static_cast<int64_t>(it.context.size()) +
         it.new_tokens_max.value_or(kNewTokensMax);
}

void GenerationTask::Compare(const GenerationItem& item,
                             ItemScore& score) const {
  if (text_ == nullptr) {
    score.is_correct = *score.generated_ids == item.target;
    return;
  }
  score.generated_text = rules_.Cut(text_->Decode(*score.generated_ids));
  score.filtered_text = rules_.Filter(*score.generated_text);
  score.is_correct = std::any_of(
      item.texts.begin(), item.texts.end(), [&](const std::string& target) {
        return rules_.Matches(*score.filtered_text, target);
      });
}

absl::StatusOr<ItemScore> GenerationTask::Score(const Model& model,
                                                const at::Tensor&,
                                                int64_t item) const {
  const GenerationItem& it = items_[static_cast<size_t>(item)];
  const LanguageModel& language = *model.language();
  const int64_t room =
      language.longest_input() - InputLength(language, it, 1) + 1;
  absl::StatusOr<Generated> generated = GenerateGreedily(
      language, it.context,
      it.new_tokens_max.value_or(std::min(kNewTokensMax, room)),
      [&](const TokenIds& ids) {
        return text_ != nullptr && rules_.IsOver(text_->Decode(ids));
      });
  if (!generated.ok()) return Annotate(generated.status(), it.where);
  ItemScore score;
  score.id = it.id;
  score.group = it.group;
  score.logprob_sum = generated->logprob_sum;
  score.tokens = static_cast<int64_t>(generated->ids.size());
  score.generated_ids = std::move(generated->ids);
  Compare(it, score);
  return score;
}

std::map<std::string, double> GenerationTask::Metrics(
    absl::Span<const ItemScore> scores) const {
  return {{"exact_match", Accuracy(scores)}};
}

}  // namespace cairn
